"""A live distillation, watched in a real browser from its start to a student that wins, while others generate.

Needs a Chromium on the machine.  The app runs as a user starts it; a visitor presses the Distil tab's button, and one
more asks for a pair every few seconds.  All is read from what the page shows.
"""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from benchmarks.page import COUNT_FRAMES, FLAGS, READ_FRAMES, find_chromium, quiet_app
from benchmarks.rows import Measure, save

FIRST_SECONDS, WIN_SECONDS, TASK_MS = 30, 240, 100
OTHERS_PAUSE_SECONDS = 5.0
PATIENCE_SECONDS = 1200
LOOK = """() => {
  const root = document.querySelector(".tdm-distil"), svg = root.querySelector(".tdm-chart svg");
  const rules = [...svg.querySelectorAll(".tdm-rule")].map((line) => +line.getAttribute("y1"));
  const share = (y) => (Math.max(...rules) - y) / (Math.max(...rules) - Math.min(...rules));
  return {
    state: root.dataset.state,
    scores: [...svg.querySelectorAll("circle")].map((dot) => share(+dot.getAttribute("cy"))),
    lines: Object.fromEntries([...svg.querySelectorAll("line.tdm-dashed")].map((line) =>
      [line.dataset.role, share(+line.getAttribute("y1"))])),
    picture: root.querySelector(".tdm-trio [data-role=student] img")?.src ?? "",
    iteration: root.querySelector("[data-figure=step]").textContent,
  };
}"""


@dataclass
class Watched:
    """Seconds since the click, and what was to be seen."""

    pictures: list[float] = field(default_factory=list)
    """When the student's first picture came, and each time that it changed."""
    won: float = float("inf")
    ended: float = 0.0
    score: float = 0.0
    lines: dict[str, float] = field(default_factory=dict)
    longest_task_ms: float = 0.0


class Others:
    """A visitor who asks for a teacher, a cut teacher and a student again and again."""

    def __init__(self, url: str) -> None:
        self._url, self._stop = url, threading.Event()
        self.seconds: list[float] = []
        self.errors: list[str] = []
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Others:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        seed = 0
        while not self._stop.wait(OTHERS_PAUSE_SECONDS):
            seed, begun = seed + 1, time.perf_counter()
            try:
                told = self._compare(seed)
            except OSError as error:
                told = str(error)
            if "event: complete" in told:
                self.seconds.append(time.perf_counter() - begun)
            else:
                self.errors.append(told[-200:])

    def _compare(self, seed: int) -> str:
        address = f"{self._url}/gradio_api/call/compare"
        body = json.dumps({"data": ["two foxes", seed, 4, 28, "mini-sd3"]}).encode()
        asked = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=120) as answer:
            event = json.load(answer)["event_id"]
        with urllib.request.urlopen(f"{address}/{event}", timeout=120) as answer:
            return str(answer.read().decode())


def main(shots: str | None = None) -> None:
    with sync_playwright() as playwright, quiet_app() as url:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.goto(f"{url}/?tab=distil")
        with Others(url) as others:
            seen = watch(page, Path(shots) if shots else None)
        chosen = choose_the_student(page, Path(shots) if shots else None)
        browser.close()
    measures = [*_of_the_run(seen), *_of_the_others(others), chosen]
    for measure in measures:
        print(f"{measure.what:78} {measure.value:8.3f} {measure.unit:3} {measure.bar} {measure.met}")
    print(save("live", "make bench ARGS=live", measures))


def watch(page: Page, shots: Path | None) -> Watched:
    """Press the button, and look four times a second until the run has ended."""
    seen, picture, shot = Watched(), "", 0.0
    page.locator(".tdm-distil[data-state=idle]").wait_for(timeout=60_000)
    page.evaluate(COUNT_FRAMES)
    page.locator("button[data-do=begin]").click()
    begun = time.perf_counter()
    while (spent := time.perf_counter() - begun) < PATIENCE_SECONDS:
        shown: dict[str, Any] = page.evaluate(LOOK)
        if shown["state"] in ("failed", "stopped"):
            raise RuntimeError(f"the run {shown['state']}: {page.locator('.tdm-distil .tdm-message').text_content()}")
        if shown["picture"] != picture:
            picture = shown["picture"]
            seen.pictures.append(spent)
        seen.lines |= shown["lines"]
        if shown["scores"]:
            seen.score = shown["scores"][-1]
            if seen.score > seen.lines.get("equal", 1.0):
                seen.won = min(seen.won, spent)
        if shots and spent > shot:
            page.screenshot(path=shots / f"distil-{spent:03.0f}.png")
            shot = spent + 30
        if shown["state"] == "ended":
            seen.ended, seen.longest_task_ms = spent, page.evaluate(READ_FRAMES)[1]
            return seen
        time.sleep(0.25)
    raise RuntimeError(f"the run did not end within {PATIENCE_SECONDS} s")


def choose_the_student(page: Page, shots: Path | None) -> Measure:
    """From the ended run into Compare, to all sides' pictures."""
    with page.expect_download() as download:
        page.locator("[data-do=download]").click()
    size = download.value.path().stat().st_size
    page.locator("button[data-do=compare]").click()
    page.wait_for_function("location.search.includes('system=mini-sd3-live-')", timeout=60_000)
    page.wait_for_function("document.querySelectorAll('.tdm-card[data-state=ready]').length === 3", timeout=120_000)
    if shots:
        page.screenshot(path=shots / "distil-compare.png")
    return Measure(what="its LoRA, downloaded and chosen in Compare", value=size / 1e6, unit="MB")


def _of_the_run(seen: Watched) -> list[Measure]:
    first, longest = seen.pictures[1], seen.longest_task_ms
    return [
        Measure(
            what="click to the first pictures that training changed",
            value=first,
            unit="s",
            bar=f"<= {FIRST_SECONDS} s",
            met=first <= FIRST_SECONDS,
        ),
        Measure(
            what="click to a score above the teacher's at equal evaluations",
            value=seen.won,
            unit="s",
            bar=f"<= {WIN_SECONDS} s",
            met=seen.won <= WIN_SECONDS,
        ),
        Measure(what="click to the finished student", value=seen.ended, unit="s"),
        Measure(what="score of the finished student", value=seen.score, n=96),
        Measure(what="score of the teacher at its 56 evaluations, same captions", value=seen.lines["teacher"], n=96),
        Measure(what="score of the teacher at the student's evaluations", value=seen.lines["equal"], n=96),
        Measure(
            what="longest task of the page meanwhile",
            value=longest,
            unit="ms",
            bar=f"<= {TASK_MS} ms",
            met=longest <= TASK_MS,
        ),
    ]


def _of_the_others(others: Others) -> list[Measure]:
    return [
        Measure(
            what="teacher, cut teacher and student for others meanwhile (median)",
            value=statistics.median(others.seconds),
            unit="s",
            n=len(others.seconds),
        ),
        Measure(what="errors of others", value=len(others.errors), bar="0", met=not others.errors),
    ]


if __name__ == "__main__":
    main(*sys.argv[1:])
