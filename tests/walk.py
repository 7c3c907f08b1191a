"""A visitor's walk through every page of the real app, and a picture of each.

``python -m tests.walk`` takes the README's pictures anew, ``python -m tests.walk FOLDER`` all there are; both need a
Chromium.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pages"
PROMPT = "a panda on blue and a fox on red"  # with the example's seed the cut teacher draws one too many
SIZES = {"phone": (390, 844), "desk": (1280, 860)}
"""The phone goes first: whoever sits at the desk ends the study."""
VOTES = {"phone": 1, "desk": 4}
CLIPS, CLIPS_TITLE = "mini-cogvideox", "Moving scenes, mini CogVideoX"

# A narrow window keeps the tabs that have no room in a menu.
_TABS = "[...document.querySelectorAll('#tdm-tabs [role=tab], #tdm-tabs .overflow-dropdown button')]"
TABS = f"() => [...new Set({_TABS}.map((tab) => tab.textContent.trim()))]"
_NAMED = f"{_TABS}.findLast((tab) => tab.textContent.trim() === name)"
_IS_OPEN = f"{_TABS}.some((tab) => tab.ariaSelected === 'true' && tab.textContent.trim() === name)"
_ARRIVED = """(prompt) => new URLSearchParams(location.search).get("prompt") === prompt
  && document.querySelectorAll("#tdm-compare .tdm-card[data-state=ready]").length === 3"""

WATCH_CLIPS = """() => new Promise((done) => {
  const viewer = document.querySelector("#tdm-compare .tdm-viewer"), start = performance.now();
  const press = (act) => viewer.querySelector(`[data-act=${act}]`).click();
  const told = () => parseInt(viewer.querySelector(".tdm-frame").textContent) - 1;
  const panes = ["teacher", "student"].map((id) => viewer.querySelector(`.tdm-layer[data-id=${id}] > canvas`));
  const shown = () => panes.map((canvas) => canvas.toDataURL());
  const frames = [[], []], seen = [];
  press("play");
  for (let count = parseInt(viewer.querySelector(".tdm-frame").textContent.split("/")[1]); count > 0; count--) {
    press("forward");
    shown().forEach((picture, side) => { frames[side][told()] = picture; });
  }
  press("play");
  (function look() {
    seen.push([told(), ...shown().map((picture, side) => frames[side].indexOf(picture))]);
    const all = new Set(seen.map(([frame]) => frame)).size === frames[0].length;
    if (all || performance.now() - start > 10000) done({ frames, seen });
    else requestAnimationFrame(look);
  })();
})"""
"""Stops the clips that play, steps through them, and plays them again: what either side showed at each frame, as PNG,
and the frame's number beside each side's own, found by its pixels, at every moment until all had been seen."""


def open_tab(page: Any, name: str) -> None:
    """Returns once it is open; whoever is chosen from the menu comes out of it."""
    page.wait_for_function(f"(name) => {_NAMED}", arg=name)
    page.evaluate(f"(name) => {_NAMED}.click()", name)
    page.wait_for_function(f"(name) => {_IS_OPEN}", arg=name)


def walk(page: Any, size: str, picture: Callable[[str], None], *, learn: bool = False) -> None:
    """Do on every page what it is there for, and take its picture when that is to be seen.

    Only to ``learn`` is a distillation begun: it waits behind whatever else the machine does.
    """
    page.locator("#tdm-compare .tdm-card[data-state=ready]").nth(2).wait_for()
    page.locator("#tdm-prompt textarea").fill(PROMPT)
    page.get_by_role("button", name="Generate").click()
    page.wait_for_function(_ARRIVED, arg=PROMPT)
    picture("compare")
    page.locator("#tdm-compare [data-act=slider]").click()
    picture("slider")

    open_tab(page, "Steps")
    page.locator("#tdm-steps .tdm-go").click()
    page.locator("#tdm-steps .tdm-card[data-state=ready]").nth(1).wait_for()
    picture("steps")

    open_tab(page, "Race")
    page.locator(".tdm-race [data-do=start]").click()
    page.locator(".tdm-outcome h3").wait_for()
    picture("race")

    open_tab(page, "Blind study")
    page.locator("#tdm-study").get_by_role("button", name="Start").click()
    for number in range(1, VOTES[size] + 1):
        page.locator(".tdm-number", has_text=f"{number} of").wait_for()
        page.locator("[data-choice=left]:not([aria-disabled])").wait_for()
        if number == 1:
            picture("study")
        page.locator("[data-choice=left]").click()
    page.locator(".tdm-number", has_text=f"{VOTES[size] + 1} of").wait_for()
    if size == "desk":
        page.get_by_role("button", name="End the study").click()
        page.get_by_role("button", name="End it").click()
        page.locator(".tdm-results h2").wait_for()
    else:
        open_tab(page, "Results")
    picture("results")

    open_tab(page, "Distil")
    page.locator(".tdm-distil[data-state=idle] button[data-do=begin]").wait_for()
    if learn:
        page.locator("button[data-do=begin]").click()
        page.wait_for_function("document.querySelectorAll('.tdm-distil .tdm-chart circle').length >= 3")
    picture("distil")
    if learn:
        page.locator("button[data-do=quit]").click()
        page.locator(".tdm-distil[data-state=stopped]").wait_for()

    open_tab(page, "Quiz")
    page.locator("#tdm-quiz").get_by_role("button", name="Start").click()
    page.locator("[data-place=top]").first.wait_for()
    picture("quiz")

    for name in ("Benchmarks", "Systems", "About"):
        open_tab(page, name)
        page.wait_for_timeout(300)
        picture(name.lower())
    if size == "desk":  # once: a teacher's clip takes seconds
        play_clips(page)
        picture("clips")


def play_clips(page: Any) -> None:
    """Returns once both sides' clips of the video system play beside each other."""
    open_tab(page, "Compare")
    page.locator("#tdm-compare [data-act=side]").click()
    page.locator("#tdm-system input").click()
    page.get_by_role("option", name=CLIPS_TITLE).click()
    page.locator(f"#tdm-compare .tdm-strip [data-name*={CLIPS}]").wait_for(state="attached")  # kept when all is painted
    page.locator("#tdm-compare .tdm-viewer[data-playing=true]").wait_for()


def main() -> None:
    from playwright.sync_api import sync_playwright

    from benchmarks.page import FLAGS, PATIENCE_SECONDS, find_chromium, quiet_app

    parser = argparse.ArgumentParser(prog="python -m tests.walk", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="where all pictures go (default: the README's own alone)")
    folder: Path | None = parser.parse_args().folder
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (folder or PICTURES).mkdir(parents=True, exist_ok=True)

    def take(page: Any, size: str, what: str) -> None:
        name = f"{what}-{size}.jpg"
        if folder or name in readme:
            page.wait_for_timeout(500)  # what slides and fades has come to rest
            page.screenshot(path=(folder or PICTURES) / name, type="jpeg", quality=85)
            print(name, flush=True)

    with sync_playwright() as playwright, quiet_app() as url:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        for size, (width, height) in SIZES.items():
            page = browser.new_page(viewport={"width": width, "height": height})
            page.goto(url)
            page.set_default_timeout(PATIENCE_SECONDS * 1000)
            walk(page, size, partial(take, page, size), learn=True)
        browser.close()


if __name__ == "__main__":
    main()
