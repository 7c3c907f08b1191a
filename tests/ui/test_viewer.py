"""The viewer alone, in a blank page: no server, pictures made by the test."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from tdm_core.generation.sample import Role
from tests.ui.fakes import gradient
from tests.ui.viewer_page import BARE, item, shot, show_viewer

LOOK = "() => [...document.querySelectorAll('.tdm-layer')].filter((l) => !l.hidden).map((l) => l.dataset.id)"
TRANSFORMS = "() => [...document.querySelectorAll('.tdm-canvas')].map((c) => c.style.transform)"


@pytest.fixture
def show(open_page):
    return lambda *items, **options: show_viewer(open_page, *items, **options)


@pytest.fixture
def three(show):
    return show(*(item(role, gradient(role, 3)) for role in Role))


def test_pixels_arrive_as_they_were_made(show):
    pixels = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    page = show(item("a", pixels), item("b", pixels))
    read = page.evaluate(
        """() => { const c = document.querySelector('.tdm-canvas');
                   return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data] }"""
    )
    assert np.array_equal(np.array(read, np.uint8).reshape(128, 128, 4)[..., :3], pixels)


def test_identical_pictures_look_identical_at_every_zoom_and_divider(show):
    pixels = gradient(Role.TEACHER, 3)
    page = show(item("a", pixels), item("b", pixels))
    page.add_style_tag(content=BARE)
    for zoom in range(3):
        page.keyboard.press("3")
        first = shot(page)
        page.keyboard.down("b")
        assert np.array_equal(shot(page), first)
        page.keyboard.up("b")
        page.evaluate(f"api.view.wipe = {0.13 + 0.2 * zoom}")
        page.keyboard.press("2")
        assert np.array_equal(shot(page), first)
        page.keyboard.press("+")
        page.keyboard.press("ArrowDown")


def test_one_zoom_and_one_pan_for_all_pictures(three):
    page = three
    before = page.evaluate(TRANSFORMS)
    box = page.locator(".tdm-layer").first.bounding_box()
    page.mouse.move(box["x"] + 30, box["y"] + 40)
    page.mouse.wheel(0, -400)
    page.wait_for_function(f"({TRANSFORMS})()[0] !== {json.dumps(before[0])}")
    zoomed = page.evaluate(TRANSFORMS)
    assert len(set(zoomed)) == 1
    page.mouse.down()
    page.mouse.move(box["x"] + 10, box["y"] + 20)
    page.mouse.up()
    panned = page.evaluate(TRANSFORMS)
    assert len(set(panned)) == 1
    assert panned != zoomed
    page.keyboard.press("0")
    assert page.evaluate(TRANSFORMS) == before


def test_pictures_of_different_sizes_stay_aligned(show):
    small, large = gradient(Role.TEACHER, 3, 64), gradient(Role.TEACHER, 3, 256)
    page = show(item("a", small), item("b", large))
    page.evaluate("api.view.cx = 0.3")
    for _ in range(3):
        page.keyboard.press("+")
    boxes = page.evaluate(
        "() => [...document.querySelectorAll('.tdm-canvas')].map((c) => { const r = c.getBoundingClientRect(),"
        " l = c.parentElement.getBoundingClientRect(); return [r.x - l.x, r.y - l.y, r.width, r.height] })"
    )
    assert np.allclose(boxes[0], boxes[1], atol=0.01)


def test_every_key_does_its_work_and_the_focus_never_falls_to_the_body(three):
    page = three
    state = "() => ({ ...api.view, mode: document.querySelector('.tdm-viewer').dataset.mode })"

    def press(key):
        page.keyboard.press(key)
        assert page.evaluate("document.querySelector('.tdm-viewer').contains(document.activeElement)"), key
        return page.evaluate(state)

    assert press("2")["mode"] == "slider"
    assert press("ArrowRight")["wipe"] == pytest.approx(0.52)
    assert press("Shift+ArrowRight")["wipe"] == pytest.approx(0.62)
    page.locator(".tdm-handle").focus()
    assert press("ArrowLeft")["wipe"] == pytest.approx(0.60)
    assert press("3")["mode"] == "blink"  # the handle had the focus and is hidden now
    assert press("1")["mode"] == "side"
    assert press("+")["z"] == pytest.approx(1.5)
    assert press("ArrowRight")["cx"] > 0.5
    assert press("-")["z"] == 1
    assert press("z")["z"] < 1  # one pixel of the picture per pixel of the screen
    assert press("0")["z"] == 1
    assert press("s")["smooth"] is False
    assert press("x")["swapped"] is True
    press("d")
    assert page.locator(".tdm-sheet a").count() == 3
    press("Escape")
    assert not page.locator(".tdm-sheet").is_visible()
    press("?")
    assert page.locator(".tdm-help").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator(".tdm-help").is_visible()


def test_keys_pass_by_a_field_and_modifiers(three):
    page = three
    page.evaluate("document.querySelector('.tdm-foot').innerHTML = '<input>'")
    page.locator(".tdm-foot input").type("23xsb")
    page.locator(".tdm-stage").focus()
    page.keyboard.press("Control+3")
    assert page.locator(".tdm-viewer").get_attribute("data-mode") == "side"
    assert page.locator(".tdm-foot input").input_value() == "23xsb"


def test_the_slider_shows_the_chosen_pair_and_blink_one_picture(three):
    page = three
    page.keyboard.press("2")
    assert page.evaluate(LOOK) == ["teacher", "student"]
    page.locator("[data-act=pair]").select_option("teacher_few student")
    assert page.evaluate(LOOK) == ["teacher_few", "student"]
    page.locator(".tdm-stage").focus()
    page.keyboard.press("3")
    assert page.evaluate(LOOK) == ["teacher_few"]
    page.keyboard.down("b")
    assert page.evaluate(LOOK) == ["student"]
    page.keyboard.up("b")
    assert page.evaluate(LOOK) == ["teacher_few"]
    page.get_by_role("button", name="Flip").click()
    assert page.evaluate(LOOK) == ["student"]


def test_dragging_the_divider_is_monotone_and_survives_updates(three):
    page = three
    page.keyboard.press("2")
    box = page.locator(".tdm-handle").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    wipes = []
    for step in range(1, 51):
        page.evaluate("window.value = { ...window.value }; window.draw()")
        page.mouse.move(x + 3 * step, y)
        wipes.append(page.evaluate("api.view.wipe"))
    page.mouse.up()
    assert wipes == sorted(wipes)
    assert wipes[-1] > wipes[0]


def test_hostile_words_are_text(show):
    page = show(item("a", gradient(Role.STUDENT, 1)))
    for words in ("${alert(1)}", "{{value}}", "\\u", "`", "<img src=x onerror=alert(1)>", "مرحبا", "x" * 10_000):
        page.evaluate(
            "(t) => { value.items = [{ ...value.items[0], label: t, note: t, badge: t, alt: t }]; draw() }",
            words,
        )
        assert page.locator(".tdm-name").text_content() == words
        assert page.locator(".tdm-viewer img").count() == 0


def test_a_picture_from_elsewhere_is_not_fetched(show):
    page = show(item("a", gradient(Role.STUDENT, 1)))
    page.evaluate("value = { rev: 2, items: [{ ...value.items[0], src: 'https://example.com/a.png' }] }; draw()")
    page.get_by_text("another host").wait_for()


def test_a_lost_picture_can_be_tried_again(show):
    page = show(item("a", gradient(Role.STUDENT, 1)))
    page.evaluate("value = { rev: 2, items: [{ ...value.items[0], src: 'data:image/png;base64,AAAA' }] }; draw()")
    page.get_by_role("button", name="Try again").wait_for()


def test_on_a_phone_the_slider_comes_first_and_swiping_scrolls(show):
    page = show(
        *(item(role, gradient(role, 3)) for role in Role), width=390, height=844, has_touch=True, device_scale_factor=2
    )
    assert page.locator(".tdm-viewer").get_attribute("data-mode") == "slider"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    action = "() => getComputedStyle(document.querySelector('.tdm-stage')).touchAction"
    assert page.evaluate(action).startswith("pan-y")
    page.keyboard.press("+")
    assert page.evaluate(action) == "none"


def test_locked_it_tells_nothing_and_leaves_the_arrows_to_the_votes(show):
    page = show(*(item(name, gradient(Role.STUDENT, 1)) for name in ("left", "right")), locked=True)
    for hidden in (".tdm-cards", "[data-act=link]", "[data-act=download]", "[data-act=swap]"):
        assert not page.locator(hidden).is_visible()
    page.keyboard.press("2")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("x")
    assert page.evaluate("[api.view.wipe, api.view.swapped]") == [0.5, False]
    page.keyboard.press("Shift+ArrowRight")
    assert page.evaluate("api.view.wipe") == pytest.approx(0.6)


@pytest.fixture
def fingers(show):
    """Three pictures on a phone, and what two fingers do there: ``touch(kind, (x, y), ...)``."""
    pictures = (item(role, gradient(role, 3)) for role in Role)
    page = show(*pictures, width=390, height=844, has_touch=True, is_mobile=True, device_scale_factor=2)
    page.evaluate("document.body.style.height = '2000px'")
    session = page.context.new_cdp_session(page)

    def touch(kind, *points):
        touches = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": touches})

    return page, touch


def test_fingers_swipe_the_page_pinch_and_move_the_picture_wipe_and_peek(fingers):
    page, touch = fingers
    view = "() => ({ ...api.view })"
    box = page.locator(".tdm-stage").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    touch("Start", (x + 60, y))
    for step in range(1, 9):
        touch("Move", (x + 60 - 15 * step, y))
    touch("End")
    assert page.evaluate("api.view.wipe") == pytest.approx(0.5 - 60 / box["width"], abs=0.06)
    assert page.evaluate(view)["z"] == 1

    touch("Start", (x - 20, y), (x + 20, y))
    for spread in range(20, 90, 10):
        touch("Move", (x - spread, y), (x + spread, y))
    touch("End")
    zoomed = page.evaluate(view)
    assert zoomed["z"] > 2
    assert zoomed["wipe"] == pytest.approx(page.evaluate("api.view.wipe"))

    page.keyboard.press("3")  # in blink a finger on a zoomed picture moves it
    touch("Start", (x, y))
    for step in range(1, 6):
        touch("Move", (x + 10 * step, y + 6 * step))
    touch("End")
    moved = page.evaluate(view)
    assert moved["cx"] < zoomed["cx"]
    assert moved["cy"] < zoomed["cy"]
    assert page.evaluate(LOOK) == ["teacher"]

    touch("Start", (x, y))
    page.wait_for_function(f"({LOOK})()[0] === 'student'")  # held: the other one
    touch("End")
    assert page.evaluate(LOOK) == ["teacher"]

    page.keyboard.press("0")  # the whole picture: now up and down belongs to the page
    touch("Start", (x, y))
    for step in range(1, 12):
        touch("Move", (x, y - 20 * step))
        page.wait_for_timeout(16)
    touch("End")
    page.wait_for_function("scrollY > 40")


@pytest.mark.parametrize("direction", ["ltr", "rtl"])
@pytest.mark.parametrize("width", [640, 360])  # 1280 and 720 pixels at 200 %
def test_nothing_is_cut_off_at_twice_the_text_size_or_from_right_to_left(show, width, direction):
    pictures = [item(role, gradient(role, 3), label=f"{role} ضعيف", note="28 خطوة · 56") for role in Role]
    page = show(*pictures, width=width, height=430, device_scale_factor=2)
    page.evaluate("(direction) => { document.documentElement.dir = direction; draw() }", direction)
    for mode in "1234":
        page.keyboard.press(mode)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for button in page.locator(".tdm-head button:visible, .tdm-head summary:visible").all():
            box = button.bounding_box()
            assert box["x"] >= -1
            assert box["x"] + box["width"] <= width + 1
    page.keyboard.press("2")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("api.view.wipe") == pytest.approx(0.52)
    handle, layer = (page.locator(each).first.bounding_box() for each in (".tdm-handle", ".tdm-layer"))
    assert handle["x"] + 22 == pytest.approx(layer["x"] + 0.52 * layer["width"], abs=1.5)


def test_full_screen_fills_the_screen_and_escape_leaves(three):
    page = three
    before = page.locator(".tdm-stage").bounding_box()["height"]
    page.keyboard.press("f")
    page.wait_for_function("document.fullscreenElement === document.querySelector('.tdm-viewer')")
    page.keyboard.press("2")
    page.wait_for_function(f"document.querySelector('.tdm-layer').getBoundingClientRect().height > {before}")
    assert page.evaluate("document.querySelector('.tdm-viewer').scrollHeight <= innerHeight")
    page.keyboard.press("f")
    page.wait_for_function("!document.fullscreenElement")


def test_the_downloads_hold_the_pixels_that_are_shown(three):
    page = three
    page.keyboard.press("d")
    with page.expect_download() as caught:
        page.get_by_role("button", name="The pair beside each other").click()
    pair = np.asarray(Image.open(caught.value.path()).convert("RGB"))
    assert np.array_equal(pair[:, :128], gradient(Role.TEACHER, 3))
    assert np.array_equal(pair[:, 136:], gradient(Role.STUDENT, 3))
    page.keyboard.press("d")
    with page.expect_download() as caught:
        page.get_by_role("button", name="All of them, with labels").click()
    grid = np.asarray(Image.open(caught.value.path()).convert("RGB"))
    assert np.array_equal(grid[:128, 136:264], gradient(Role.TEACHER_FEW, 3))
    assert grid.shape[0] > 128
    assert grid[130:].min() < 100  # there are words


def test_the_clocks_can_be_hidden(three):
    three.keyboard.press("i")
    assert not three.locator(".tdm-cards").is_visible()
    three.keyboard.press("i")
    assert three.locator(".tdm-cards").is_visible()
