"""The page in a real browser: how soon it can be used, what it adds to the engine, how smoothly the viewer moves.

Needs a Chromium on the machine. The app runs as a user starts it, on the shipped mini; it is measured once its study's
pairs are made, so that nothing else asks for the device.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from playwright.sync_api import Browser, Page, Route, sync_playwright

from benchmarks.rows import Measure, save
from benchmarks.startup import answers, free_port, running_app
from tdm_core.generation.media import encode_mp4, encode_png
from tdm_core.ui import viewer

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
COLD_RUNS, CLICKS = 5, 12
DRAG_SECONDS = 5.0
PATIENCE_SECONDS = 900
WORDS = "cat dog fox panda frog owl penguin octopus crab apple lemon donut".split()
SHOWN = """() => document.querySelector("#tdm-compare .tdm-layer[data-id=student]")?.dataset.state === "ready"
  && !!document.querySelector("#tdm-compare .tdm-viewer").dataset.painted"""
WATCH_CLICK = """(text) => new Promise((done) => {
  const area = document.querySelector("#tdm-prompt textarea");
  const brush = document.querySelector("#tdm-compare .tdm-layer[data-id=student] > canvas").getContext("2d");
  const draw = brush.drawImage;
  area.value = text;
  area.dispatchEvent(new Event("input", { bubbles: true }));
  setTimeout(() => {
    const start = performance.now();
    brush.drawImage = function (...given) {
      draw.apply(this, given);
      delete brush.drawImage;
      requestAnimationFrame(() => done(performance.now() - start));
    };
    document.querySelector("#tdm-generate").click();
  }, 300);
})"""
CLOCK = """() => JSON.parse(decodeURIComponent(document.querySelector("#tdm-compare a[download='settings.json']")
  .href.split(",").slice(1).join(","))).student.seconds * 1000"""
COUNT_FRAMES = """() => {
  window.counted = { frames: 0, longest: 0, on: true };
  new PerformanceObserver((list) => {
    for (const task of list.getEntries()) counted.longest = Math.max(counted.longest, task.duration);
  }).observe({ type: "longtask" });
  (function count() { if (!counted.on) return; counted.frames++; requestAnimationFrame(count); })();
  counted.start = performance.now();
}"""
READ_FRAMES = """() => { counted.on = false;
  return [1000 * counted.frames / (performance.now() - counted.start), counted.longest]; }"""
WATCH_CLIPS = """(seconds) => new Promise((done) => {
  const bits = (canvas) => {
    const data = canvas.getContext("2d").getImageData(0, 8, canvas.width, 1).data;
    return [0, 1, 2, 3, 4].reduce((frame, bit) => frame | ((data[4 * (16 * bit + 8)] > 128) << bit), 0);
  };
  const canvases = [...document.querySelectorAll(".tdm-layer > canvas")], start = performance.now();
  let apart = 0, loops = 0, last = 0;
  (function look() {
    const [first, second] = canvases.map(bits);
    apart = Math.max(apart, Math.abs(first - second));
    if (first < last) loops++;
    last = first;
    if (performance.now() - start < seconds * 1000) requestAnimationFrame(look); else done([apart, loops]);
  })();
})"""
BLANK = f"""<!doctype html><html><body style="margin:0"><style>#host {{ width: 1240px; {viewer.STYLE} }}</style>
<div id="host">{viewer.TEMPLATE}</div></body></html>"""
MOUNT = """(items) => { const value = { rev: 1, items };
  mount(document.querySelector(".tdm-viewer"), { below: 40, read: () => value, listen() {}, stop() {} }); }"""
CLIP_FRAMES, CLIP_FPS, CLIP_SECONDS = 32, 8, 60


def main() -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        measures = [*interaction(browser), drift(browser)]
        with quiet_app() as url:
            measures = [*cold_start(browser, url), overhead(browser, url), *measures]
        browser.close()
    for measure in measures:
        print(f"{measure.what:70} {measure.value:8.3f} {measure.unit:9} {measure.bar} {measure.met}")
    print(save("page", "make bench ARGS=page", measures))


def find_chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        raise SystemExit("no Chromium on this machine: install one with its package manager")
    return found


@contextmanager
def quiet_app() -> Iterator[str]:
    """The app's address once all pairs of its study are made."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + PATIENCE_SECONDS
    with tempfile.TemporaryDirectory() as data_dir, running_app(port, data_dir) as app:
        while not (answers(url) and _pairs_are_made(url)):
            if app.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the app did not make its study's pairs")
            time.sleep(1)
        yield url


def _pairs_are_made(url: str) -> bool:
    with urllib.request.urlopen(f"{url}/gradio_api/study/status", timeout=30) as answer:
        status = json.loads(answer.read())
    return bool(status["pairs"] >= status["target"])


def cold_start(browser: Browser, url: str) -> list[Measure]:
    """From navigation, with nothing in the browser's cache, to pictures on the screen and a button that works."""
    seconds, elsewhere = [], set()
    for _ in range(COLD_RUNS + 1):
        context = browser.new_context(viewport={"width": 1280, "height": 860})

        def refuse(route: Route) -> None:
            if urlsplit(route.request.url).hostname in ("127.0.0.1", "localhost", None):
                return route.continue_()
            elsewhere.add(route.request.url)
            return route.abort()

        context.route("**/*", refuse)
        page = context.new_page()
        start = time.perf_counter()
        page.goto(url, wait_until="commit")
        page.wait_for_function(SHOWN)
        seconds.append(time.perf_counter() - start)
        context.close()
    worst = max(seconds[1:])  # the first visit makes the example
    return [
        Measure(
            what="navigation to a usable page with its pictures, cold browser (worst)",
            value=worst,
            unit="s",
            n=COLD_RUNS,
            bar="<= 2 s",
            met=worst <= 2,
        ),
        Measure(
            what="requests that leave the machine",
            value=len(elsewhere),
            unit="requests",
            bar="none",
            met=not elsewhere,
        ),
    ]


def overhead(browser: Browser, url: str) -> Measure:
    """From the click to the painted student, less the student's own clock; a new prompt each time, so that its text
    is encoded inside that clock."""
    page = browser.new_page(viewport={"width": 1280, "height": 860})
    page.goto(url)
    page.wait_for_function(SHOWN)
    extra = []
    for index in range(CLICKS):
        whole = page.evaluate(WATCH_CLICK, f"a {WORDS[index]} left of a {WORDS[(index + 5) % len(WORDS)]}")
        page.wait_for_function("document.querySelectorAll('.tdm-card[data-state=ready]').length === 3", timeout=120_000)
        extra.append(whole - page.evaluate(CLOCK))
    page.close()
    value = statistics.median(extra)
    return Measure(
        what="page over engine, click to student picture (median)",
        value=value,
        unit="ms",
        low=min(extra),
        high=max(extra),
        n=CLICKS,
        bar="<= 150 ms",
        met=value <= 150,
    )


def interaction(browser: Browser) -> list[Measure]:
    """A pair of 1024 px under a scripted hand: panned while zoomed, wiped, zoomed by the wheel, 5 s each."""
    measures = []
    for what, prepare, move in (("pan", "1++", _circle), ("slider", "2", _sweep), ("wheel zoom", "1", _wheel)):
        page = _viewer_page(browser, [_item(name, seed) for seed, name in enumerate(("a", "b"))])
        for key in prepare:
            page.keyboard.press(key)
        frames, longest = _hand(page, move)
        measures += [
            Measure(
                what=f"viewer, {what} of a 1024 px pair for {DRAG_SECONDS:g} s",
                value=frames,
                unit="frames/s",
                bar=">= 50",
                met=frames >= 50,
            ),
            Measure(what=f"longest task, {what}", value=longest, unit="ms", bar="<= 100 ms", met=longest <= 100),
        ]
        page.close()
    return measures


def drift(browser: Browser) -> Measure:
    """Two clips whose frames show their own number, looped for a minute; read from the pixels of both panes."""
    page = _viewer_page(browser, [_clip("a"), _clip("b")])
    apart, loops = page.evaluate(WATCH_CLIPS, CLIP_SECONDS)
    page.close()
    if loops < CLIP_SECONDS * CLIP_FPS / CLIP_FRAMES - 2:
        raise RuntimeError(f"the clips played only {loops} times")
    return Measure(
        what=f"two clips, most frames apart in {CLIP_SECONDS} s of loops",
        value=apart,
        unit="frames",
        n=loops,
        bar="< 1",
        met=apart < 1,
    )


def _clip(name: str) -> dict[str, Any]:
    frames = np.zeros((CLIP_FRAMES, 16, 80, 3), np.uint8)
    for frame, picture in enumerate(frames):
        for bit in range(5):
            picture[:, 16 * bit : 16 * (bit + 1)] = 235 if frame >> bit & 1 else 20
    content = base64.b64encode(encode_mp4(frames, fps=CLIP_FPS)).decode()
    return {
        "id": name,
        "label": name,
        "state": "ready",
        "seconds": 1.0,
        "src": f"data:video/mp4;base64,{content}",
        "frames": CLIP_FRAMES,
    }


def _viewer_page(browser: Browser, items: list[dict[str, Any]]) -> Page:
    page = browser.new_page(viewport={"width": 1280, "height": 860})
    page.set_content(BLANK)
    page.add_script_tag(content=f"{viewer.SCRIPT}\nwindow.mount = mount;")
    page.evaluate(MOUNT, items)
    page.wait_for_function("document.querySelector('.tdm-viewer').dataset.painted === '1'")
    page.locator(".tdm-stage").focus()
    return page


def _item(name: str, seed: int) -> dict[str, Any]:
    coarse = np.random.default_rng(seed).integers(0, 256, (128, 128, 3), np.uint8)
    content = base64.b64encode(encode_png(coarse.repeat(8, 0).repeat(8, 1))).decode()
    return {"id": name, "label": name, "state": "ready", "seconds": 1.0, "src": f"data:image/png;base64,{content}"}


def _hand(page: Page, move: Any) -> tuple[float, float]:
    """Animation frames a second and the longest task in ms while the pointer moves about 60 times a second."""
    box = page.locator(".tdm-stage").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 4, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    if move is not _wheel:
        page.mouse.down()
    page.evaluate(COUNT_FRAMES)
    start = time.perf_counter()
    while (gone := time.perf_counter() - start) < DRAG_SECONDS:
        move(page, x, y, gone)
        time.sleep(max(0.0, 1 / 60 - (time.perf_counter() - start - gone)))
    frames, longest = page.evaluate(READ_FRAMES)
    return float(frames), float(longest)


def _circle(page: Page, x: float, y: float, gone: float) -> None:
    page.mouse.move(x + 120 * np.cos(3 * gone), y + 120 * np.sin(3 * gone))


def _sweep(page: Page, x: float, y: float, gone: float) -> None:
    page.mouse.move(x + 300 + 280 * np.sin(3 * gone), y)


def _wheel(page: Page, x: float, y: float, gone: float) -> None:
    page.mouse.wheel(0, -40 if gone % 2 < 1 else 40)


if __name__ == "__main__":
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    main()
