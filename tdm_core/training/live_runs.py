"""The page's side of a live distillation: a fair line, one child process at a time, its events as they come.

No torch here: the child (``train/live.py``) does the work, and the page's process only reads what it tells.  Besides
the child's events there are ``waiting`` (with ``ahead``, how many are before), ``loading``, ``tick`` (nothing new, so
that a page that has gone is noticed), ``full``, ``gave_way`` and, where the child ends without a word, ``failed``.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any, Literal

Event = dict[str, Any]
Wish = Literal["go", "pause", "stop"]

MOST_WAITING = 6
TICK_SECONDS = 0.5
PAUSE_SECONDS = 120
"""How long a paused run may keep others waiting."""
NICENESS = 5
"""Of the child: visitors who want a picture go first."""
GRACE_SECONDS = 5
"""For a child that is told to stop: an iteration is shorter."""
GONE = "The training process ended unexpectedly (exit status {status}); the server's log says more. Try once more."

logger = logging.getLogger(__name__)


class LiveRuns:
    """One run at a time, in the order of asking."""

    def __init__(self, command: Sequence[str], *, cwd: Path, pause_seconds: float = PAUSE_SECONDS) -> None:
        """``command`` starts the child; the folder for its student is appended."""
        self._command, self._cwd, self._pause_seconds = list(command), cwd, pause_seconds
        self._changed = threading.Condition()
        self._line: list[object] = []
        self._child: subprocess.Popen[str] | None = None
        self._closed = False

    def watch(self, wish: Callable[[], Wish], out: Path) -> Iterator[Event]:
        """Wait for the turn, run, and tell.  Closing this generator ends the run.

        Args:
            wish: what the watcher wants at this moment; asked twice a second.
            out: folder of the finished student.
        """
        ticket = object()
        with self._changed:
            is_full = len(self._line) > MOST_WAITING
            if not is_full:
                self._line.append(ticket)
        if is_full:
            yield {"kind": "full"}
            return
        try:
            while ahead := self._ahead(ticket):
                if wish() == "stop" or self._closed:
                    return
                yield {"kind": "waiting", "ahead": ahead}
                with self._changed:
                    self._changed.wait(TICK_SECONDS)
            if not self._closed and wish() != "stop":
                yield {"kind": "loading"}
                yield from self._run(wish, out)
        finally:
            with self._changed:
                self._line.remove(ticket)
                self._changed.notify_all()

    def close(self) -> None:
        """End what runs; nothing new will start."""
        self._closed = True
        if child := self._child:
            _end(child)

    def _ahead(self, ticket: object) -> int:
        with self._changed:
            return self._line.index(ticket)

    def _run(self, wish: Callable[[], Wish], out: Path) -> Iterator[Event]:
        child = subprocess.Popen(
            [*self._command, str(out)], cwd=self._cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._child = child
        with suppress(ProcessLookupError):  # it has ended already, and will be told as such
            os.setpriority(os.PRIO_PROCESS, child.pid, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)
        inbox: SimpleQueue[Event | None] = SimpleQueue()
        assert child.stdout
        threading.Thread(target=_listen, args=(child.stdout, inbox), name="tdm-live", daemon=True).start()
        try:
            yield from self._tell(child, inbox, wish)
        finally:
            _end(child)
            self._child = None

    def _tell(self, child: subprocess.Popen[str], inbox: SimpleQueue[Event | None], wish: Callable[[], Wish]) -> Any:
        told, paused_at, last = "go", 0.0, ""
        while True:
            if (wanted := wish()) != told:
                if wanted == "stop":
                    return
                told, paused_at = wanted, time.monotonic()
                _ask(child, wanted)
            if told == "pause" and len(self._line) > 1 and time.monotonic() - paused_at > self._pause_seconds:
                yield {"kind": "gave_way"}
                return
            try:
                event = inbox.get(timeout=TICK_SECONDS)
            except Empty:
                yield {"kind": "tick"}
                continue
            if event is None:
                break
            last = event["kind"]
            yield event
        if last not in ("end", "failed") and not self._closed:
            yield {"kind": "failed", "message": GONE.format(status=child.wait())}


def _listen(lines: IO[str], inbox: SimpleQueue[Event | None]) -> None:
    with lines:
        for line in lines:
            inbox.put(json.loads(line))
    inbox.put(None)


def _ask(child: subprocess.Popen[str], wish: str) -> None:
    assert child.stdin
    with suppress(BrokenPipeError):  # it has just ended
        child.stdin.write(wish + "\n")
        child.stdin.flush()


def _end(child: subprocess.Popen[str]) -> None:
    """The end of its stdin tells the child to stop; one that does not is killed."""
    assert child.stdin
    with suppress(BrokenPipeError):
        child.stdin.close()
    try:
        child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        logger.warning("a live distillation did not stop when told to and was killed")
        child.kill()
        child.wait()
