"""The difference, the loupe, and the jump to where two pictures differ most."""

from __future__ import annotations

import numpy as np
import pytest

from tdm_core.generation.sample import Role
from tests.ui.fakes import gradient
from tests.ui.viewer_page import BARE, item, shot, show_viewer

READ = """() => { const c = document.querySelector(".tdm-difference canvas");
  return [c.width, c.height, [...c.getContext("2d").getImageData(0, 0, c.width, c.height).data]] }"""


@pytest.fixture
def show(open_page):
    return lambda *items, **options: show_viewer(open_page, *items, **options)


def shown_difference(page):
    width, height, data = page.evaluate(READ)
    return np.array(data, np.uint8).reshape(height, width, 4)[..., :3]


@pytest.mark.parametrize(("width", "height"), [(1280, 860), (600, 1000)])
def test_identical_pictures_differ_nowhere_at_any_zoom(show, width, height):
    pixels = np.random.default_rng(1).integers(0, 256, (96, 160, 3), np.uint8)
    page = show(item("a", pixels), item("b", pixels), width=width, height=height)
    page.add_style_tag(content=BARE)
    page.keyboard.press("4")
    for zoom in (1, 1.37, 2, 3.1, 5, 8, 13.3, 20, 32):
        page.evaluate("(z) => { Object.assign(api.view, { z, cx: 0.31, cy: 0.64, gain: 64 }); draw() }", zoom)
        layer = page.locator(".tdm-difference").bounding_box()
        stage = page.locator(".tdm-stage").bounding_box()
        left, top = round(layer["x"] - stage["x"]), round(layer["y"] - stage["y"])
        inside = shot(page)[top + 1 : top + int(layer["height"]) - 1, left + 1 : left + int(layer["width"]) - 1]
        assert inside.max() == 0, zoom
    assert "no difference" in page.locator(".tdm-difference .tdm-label").text_content()


def test_the_difference_is_exact_to_the_bit_with_any_gain(show):
    rng = np.random.default_rng(2)
    a, b = (rng.integers(0, 256, (40, 56, 3), np.uint8) for _ in range(2))
    page = show(item("a", a), item("b", b))
    page.keyboard.press("4")
    truth = np.abs(a.astype(int) - b)
    assert np.array_equal(shown_difference(page), np.minimum(4 * truth, 255))
    page.keyboard.press("Shift+G")
    page.keyboard.press("Shift+G")
    assert np.array_equal(shown_difference(page), truth)
    words = page.locator(".tdm-difference .tdm-label").text_content()
    psnr = 10 * np.log10(255**2 / np.mean(truth**2))
    assert words == f"mean {truth.mean():.2f} · largest {truth.max()} of 255 · {psnr:.1f} dB"


def test_the_heat_map_grows_brighter_with_the_difference(show):
    a = np.zeros((8, 64, 3), np.uint8)
    b = a.copy()
    b[..., 1] = np.arange(64) * 4
    page = show(item("a", a), item("b", b), value={"fps": 8})
    page.keyboard.press("4")
    page.evaluate("Object.assign(api.view, { gain: 1 })")
    page.keyboard.press("h")
    light = shown_difference(page)[4].astype(float) @ [0.299, 0.587, 0.114]
    assert light[0] < 2
    assert np.all(np.diff(light) > 0)


def test_jumping_goes_to_the_largest_difference_first_and_then_to_the_next(show):
    a = np.full((128, 128, 3), 90, np.uint8)
    b = a.copy()
    b[100:104, 20:24] = 250
    b[30:34, 90:94] = 140
    page = show(item("a", a), item("b", b))
    page.keyboard.press("n")
    page.get_by_text("1 of 2: differs by up to 160 of 255").wait_for()
    assert page.evaluate("[api.view.cx, api.view.cy, api.view.z]") == pytest.approx([22 / 128, 102 / 128, 4], abs=0.02)
    page.keyboard.press("n")
    page.get_by_text("2 of 2: differs by up to 50 of 255").wait_for()
    assert page.evaluate("[api.view.cx, api.view.cy]") == pytest.approx([92 / 128, 32 / 128], abs=0.02)
    page.keyboard.press("p")
    assert page.evaluate("api.view.cx") == pytest.approx(22 / 128, abs=0.02)
    mark = page.locator(".tdm-mark").first.bounding_box()
    layer = page.locator(".tdm-layer").first.bounding_box()
    assert layer["x"] < mark["x"] + 22 < layer["x"] + layer["width"]


def test_pictures_of_different_sizes_are_compared_at_the_larger_one(show):
    small = np.random.default_rng(3).integers(0, 256, (16, 16, 3), np.uint8)
    page = show(item("a", small), item("b", small.repeat(4, 0).repeat(4, 1)))
    page.keyboard.press("4")
    difference = shown_difference(page)
    assert difference.shape == (64, 64, 3)
    assert difference.max() == 0


def test_of_three_the_chosen_pair_is_wiped_blinked_and_subtracted(show):
    page = show(*(item(role, gradient(role, 3)) for role in Role))
    page.keyboard.press("4")
    for pair in (("teacher", "teacher_few"), ("teacher", "student"), ("teacher_few", "student")):
        page.locator("[data-act=pair]").select_option(" ".join(pair))
        truth = np.abs(np.subtract(*(gradient(Role(role), 3).astype(int) for role in pair)))
        assert np.array_equal(shown_difference(page), np.minimum(4 * truth, 255))
    page.locator(".tdm-stage").focus()
    page.keyboard.down("b")
    assert page.locator(".tdm-difference").count() == 0
    page.keyboard.up("b")
    assert page.locator(".tdm-difference").count() == 1


def test_the_loupe_tells_the_values_of_the_same_pixel_in_every_picture(show):
    rng = np.random.default_rng(4)
    a, b = (rng.integers(0, 256, (32, 32, 3), np.uint8) for _ in range(2))
    page = show(item("a", a), item("b", b))
    page.keyboard.press("l")
    box = page.locator(".tdm-layer[data-id=b]").bounding_box()
    x, y = 20, 7
    page.mouse.move(box["x"] + (x + 0.5) / 32 * box["width"], box["y"] + (y + 0.5) / 32 * box["height"])
    page.locator(".tdm-lens", has_text=f"at {x}, {y}").first.wait_for()
    told = [lens.text_content() for lens in page.locator(".tdm-lens").all()]
    values = [" ".join(map(str, pixels[y, x])) for pixels in (a, b)]
    assert told == [f"A{values[0]}at {x}, {y}", f"B{values[1]}at {x}, {y}"]
    page.keyboard.press("l")
    assert not page.locator(".tdm-loupe").is_visible()


def test_locked_there_is_neither_difference_nor_loupe(show):
    page = show(*(item(name, gradient(Role.STUDENT, 1)) for name in ("left", "right")), locked=True)
    for key in ("4", "l", "n", "g", "h", "i"):
        page.keyboard.press(key)
    assert page.locator(".tdm-difference").count() == 0
    assert page.locator(".tdm-viewer").get_attribute("data-mode") == "side"
    for hidden in ("[data-act=diff]", "[data-act=loupe]", "[data-act=next]"):
        assert not page.locator(hidden).is_visible()
