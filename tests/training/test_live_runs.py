"""The line and the child process of live distillations, with a child that is quick to start."""

import sys
import textwrap
import threading
import time
from contextlib import closing

import pytest

from tdm_core.training import live_runs
from tdm_core.training.live_runs import LiveRuns

CHILD = """
    import json, sys, threading
    stop, told = threading.Event(), []
    def listen():
        for line in sys.stdin:
            told.append(line.strip())
            if told[-1] == "stop":
                break
        stop.set()
    threading.Thread(target=listen, daemon=True).start()
    print(json.dumps({"kind": "begin", "out": sys.argv[1]}), flush=True)
"""
ENDLESS = "stop.wait(); sys.exit(0)"
QUICK = """print(json.dumps({"kind": "end", "file": "x"}), flush=True)"""
DEAF = "import time; time.sleep(60)"


def runs(tmp_path, end, **options):
    program = textwrap.dedent(CHILD) + end
    return LiveRuns([sys.executable, "-c", program], cwd=tmp_path, **options)


def kinds(events):
    return [event["kind"] for event in events if event["kind"] != "tick"]


def until(events, kind):
    return next(event for event in events if event["kind"] == kind)


def go():
    return "go"


def test_a_run_tells_what_its_child_tells(tmp_path):
    events = list(runs(tmp_path, QUICK).watch(go, tmp_path / "student"))
    assert kinds(events) == ["loading", "begin", "end"]
    assert events[1]["out"] == str(tmp_path / "student")


def test_closing_the_watch_ends_the_child(tmp_path):
    line = runs(tmp_path, ENDLESS)
    with closing(line.watch(go, tmp_path)) as events:
        until(events, "begin")
        child = line._child
        assert child.poll() is None
    assert child.poll() == 0  # by the end of its stdin, not by force


def test_a_child_that_does_not_stop_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(live_runs, "GRACE_SECONDS", 0.3)
    line = runs(tmp_path, DEAF)
    with closing(line.watch(go, tmp_path)) as events:
        until(events, "begin")
        child = line._child
    assert child.poll() == -9


def test_a_wish_to_stop_ends_the_run(tmp_path):
    wishes = iter(["go", "go", "stop"])
    assert kinds(runs(tmp_path, ENDLESS).watch(lambda: next(wishes, "stop"), tmp_path)) == ["loading", "begin"]


def test_pause_and_go_reach_the_child(tmp_path):
    wish = ["pause"]
    echo = (
        "\nwhile not told: stop.wait(0.02)\nprint(json.dumps({'kind': 'heard', 'what': told[0]}), flush=True);"
        + ENDLESS
    )
    with closing(runs(tmp_path, echo).watch(lambda: wish[0], tmp_path)) as events:
        assert until(events, "heard")["what"] == "pause"


def test_a_child_that_dies_without_a_word_is_told(tmp_path):
    events = list(runs(tmp_path, "import os; os._exit(7)").watch(go, tmp_path))
    assert kinds(events) == ["loading", "begin", "failed"]
    assert "exit status 7" in events[-1]["message"]


def test_runs_take_turns_in_the_order_of_asking(tmp_path):
    line = runs(tmp_path, ENDLESS)
    first, second, third = (line.watch(go, tmp_path) for _ in range(3))
    until(first, "begin")
    assert next(second) == {"kind": "waiting", "ahead": 1}
    assert next(third) == {"kind": "waiting", "ahead": 2}
    first.close()
    assert next(third) == {"kind": "waiting", "ahead": 1}
    until(second, "begin")
    second.close()
    until(third, "begin")
    third.close()


def test_who_leaves_the_line_does_not_hold_it_up(tmp_path):
    line = runs(tmp_path, QUICK)
    first, second, third = (line.watch(go, tmp_path) for _ in range(3))
    until(first, "begin")
    next(second), next(third)
    second.close()
    assert kinds(first) == ["end"]
    assert "end" in kinds(third)


def test_a_line_that_is_too_long_takes_nobody_more(tmp_path, monkeypatch):
    monkeypatch.setattr(live_runs, "MOST_WAITING", 1)
    line = runs(tmp_path, ENDLESS)
    watches = [line.watch(go, tmp_path) for _ in range(3)]
    assert [next(watch)["kind"] for watch in watches] == ["loading", "waiting", "full"]
    for watch in watches:
        watch.close()


def test_a_paused_run_gives_way_only_where_somebody_waits(tmp_path):
    line = runs(tmp_path, ENDLESS, pause_seconds=0.0)
    first, second = line.watch(lambda: "pause", tmp_path), line.watch(go, tmp_path)
    until(first, "begin")
    assert [next(first)["kind"] for _ in range(2)] == ["tick", "tick"]
    next(second)
    assert kinds(first) == ["gave_way"]
    until(second, "begin")
    second.close()


def test_the_app_s_end_is_the_run_s_end(tmp_path):
    line = runs(tmp_path, ENDLESS)
    events = line.watch(go, tmp_path)
    until(events, "begin")
    child = line._child
    threading.Timer(0.2, line.close).start()
    assert kinds(events) == []
    assert child.poll() == 0
    assert kinds(line.watch(go, tmp_path)) == []


@pytest.mark.parametrize("wish", ["go", "pause"])
def test_a_watcher_is_asked_at_least_every_second(tmp_path, wish):
    line = runs(tmp_path, ENDLESS)
    with closing(line.watch(lambda: wish, tmp_path)) as events:
        until(events, "begin")
        started = time.monotonic()
        next(events)
        assert time.monotonic() - started < 5  # a tick is half a second; the rest is for a busy machine
