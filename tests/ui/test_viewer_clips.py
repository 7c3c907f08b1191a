"""Clips in the viewer: one clock, frames that are what their number says."""

from __future__ import annotations

import numpy as np
import pytest

from tdm_core.generation.media import encode_mp4
from tests.ui.viewer_page import FPS, PAINTED, barcodes, item, show_viewer

FRAMES = 49


@pytest.fixture
def show(open_page):
    return lambda *items, **options: show_viewer(open_page, *items, **options)


@pytest.fixture
def two(show):
    return show(item("a", barcodes(FRAMES)), item("b", barcodes(FRAMES, tint=2)), value={"fps": FPS})


def test_every_one_of_300_seeks_shows_the_frame_that_was_asked_for_in_both_panes(two):
    two.keyboard.press(" ")  # pause
    asked = np.random.default_rng(0).integers(0, FRAMES, 300).tolist()
    read = f"""(asked) => asked.map((frame) => {{ api.clock.seek(frame); return ({PAINTED})() }})"""
    assert two.evaluate(read, asked) == [[frame, frame] for frame in asked]


def test_playing_both_panes_show_the_same_frame_at_every_moment_and_keep_the_time(two):
    watch = f"""() => new Promise((done) => {{
      const seen = [], start = performance.now();
      api.clock.rate = 2; api.clock.seek(0);
      (function look() {{
        const now = performance.now() - start;
        seen.push([({PAINTED})(), Math.floor(now / 1000 * {FPS} * 2) % {FRAMES}]);
        if (now > 5000) done(seen); else requestAnimationFrame(look);
      }})();
    }})"""
    seen = two.evaluate(watch)
    assert len(seen) > 30
    assert all(first == second for (first, second), _ in seen)
    assert len({first for (first, _), _ in seen}) > FRAMES / 2
    # Against the wall clock: at most the frame that was due between two paints.
    late = [(due - first) % FRAMES for (first, _), due in seen]
    assert np.mean([each <= 1 or each == FRAMES - 1 for each in late]) > 0.9


def test_stepping_and_the_keys_of_a_clip(two):
    page = two
    state = "() => ({ frame: api.clock.frame, playing: api.clock.playing, rate: api.clock.rate, loop: api.clock.loop })"

    def press(key):
        page.keyboard.press(key)
        assert page.evaluate("document.querySelector('.tdm-viewer').contains(document.activeElement)"), key
        return page.evaluate(state)

    assert page.evaluate(state)["playing"]
    assert not press(" ")["playing"]
    assert press("Home")["frame"] == 0
    assert press(".")["frame"] == 1
    assert press(",")["frame"] == 0
    assert press(",")["frame"] == FRAMES - 1
    assert page.evaluate(PAINTED) == [FRAMES - 1] * 2
    press("Home")
    page.evaluate("api.clock.seek(10)")
    assert press("[")["loop"] == [10, FRAMES - 1]
    page.evaluate("api.clock.seek(14)")
    assert press("]")["loop"] == [10, 14]
    assert press("<")["rate"] == 0.5
    assert press(">")["rate"] == 1
    assert press(" ")["playing"]
    frames = page.evaluate(
        """() => new Promise((done) => { const seen = new Set(), start = performance.now();
           (function look() { seen.add(api.clock.frame);
             if (performance.now() - start > 1500) done([...seen]); else requestAnimationFrame(look) })() })"""
    )
    assert set(frames) <= set(range(10, 15))
    assert press("\\")["loop"] is None
    assert press("End")["frame"] == FRAMES - 1
    scrubber = page.locator(".tdm-scrub input")
    scrubber.focus()
    assert press("ArrowLeft")["frame"] == FRAMES - 2
    assert page.locator(".tdm-frame").text_content() == f"{FRAMES - 1} / {FRAMES}"


def test_a_packed_clip_gives_both_panes_from_one_file(show):
    packed = np.concatenate([barcodes(20), barcodes(20)[::-1]], axis=2)
    page = show(item("a", barcodes(20)))
    content = list(encode_mp4(packed, fps=FPS))
    page.evaluate(
        """async (content) => {
             const source = URL.createObjectURL(new Blob([new Uint8Array(content)], { type: "video/mp4" }));
             const bitmaps = await decodeClip(source, { frames: 20, fps: 8 });
             const side = (id, x) => ({ id, label: id, state: "ready", picture: { bitmaps, x, width: 128 } });
             value = { rev: 2, fps: 8, items: [side("left", 0), side("right", 128)] };
             draw(); api.clock.pause();
           }""",
        content,
    )
    for frame in (0, 7, 19):
        page.evaluate("(frame) => api.clock.seek(frame)", frame)
        assert page.evaluate(PAINTED) == [frame, 19 - frame]


def test_a_shorter_clip_rests_on_its_last_frame_and_a_picture_stays(show):
    page = show(item("a", barcodes(12)), item("b", barcodes(5)), item("c", barcodes(1)[0]))
    page.keyboard.press("End")
    assert page.evaluate(PAINTED) == [11, 4, 0]


def test_the_student_s_clip_plays_while_the_teacher_still_runs(show):
    running = {"id": "b", "label": "B", "state": "running", "step": 3, "steps": 28, "elapsed": 1.0}
    page = show(item("a", barcodes(9)), running)
    assert page.evaluate("api.clock.frames") == 9
    assert page.evaluate("api.clock.playing")
    assert page.locator(".tdm-transport").is_visible()


def test_the_difference_of_clips_is_that_of_the_frame_shown(show):
    a, b = barcodes(9), barcodes(9)
    b[4, :, :16] = 235 - b[4, :, :16] + 20
    page = show(item("a", a), item("b", b))
    page.keyboard.press(" ")
    page.keyboard.press("4")
    mean = "() => parseFloat(document.querySelector('.tdm-difference .tdm-label').textContent.split(' ')[1]) || 0"
    found = []
    for frame in range(9):
        page.evaluate("(frame) => api.clock.seek(frame)", frame)
        found.append(page.evaluate(mean))
    assert found.index(max(found)) == 4
    assert max(found) > 10 * sorted(found)[-2]


@pytest.mark.parametrize(("motion", "plays"), [("reduce", False), ("no-preference", True)])
def test_a_clip_starts_by_itself_unless_the_visitor_wants_no_motion(show, motion, plays):
    page = show(item("a", barcodes(9)), reduced_motion=motion)
    assert page.evaluate("api.clock.playing") is plays
    page.keyboard.press(" ")
    assert page.evaluate("api.clock.playing") is not plays


def test_a_link_keeps_the_frame_the_mode_and_the_gain(show):
    items = [item("a", barcodes(9)), item("b", barcodes(9))]
    page = show(*items)
    page.keyboard.press("4")
    page.keyboard.press("g")
    page.keyboard.press("h")
    page.keyboard.press("+")
    page.evaluate("api.clock.pause(); api.clock.seek(6)")
    page.wait_for_function("location.hash.includes('f=6')")
    hash_ = page.evaluate("location.hash")
    page.evaluate("location.hash = ''")
    page.reload()
    again = show(*items, url_hash=hash_)
    state = again.evaluate(
        "[api.view.mode, api.view.gain, api.view.heat, api.view.z, api.clock.frame, api.clock.playing]"
    )
    assert state == ["diff", 8, True, 1.5, 6, False]


@pytest.mark.parametrize(
    ("change", "told"),
    [({"frames": 12}, "does not hold 12 frames"), ({"src": "data:video/mp4;base64,AAAA"}, "cannot play")],
)
def test_a_clip_that_is_not_what_it_says_is_told_in_its_pane(show, change, told):
    good = item("a", barcodes(9))
    page = show(good)
    page.evaluate(
        "(other) => { value = { rev: 2, items: [value.items[0], other] }; draw() }", good | {"id": "b"} | change
    )
    page.get_by_text(told).wait_for()
    assert page.evaluate("api.clock.frames") == 9
