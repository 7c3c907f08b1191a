"""The viewer alone, in a blank page: no server, pictures made by the test."""

from __future__ import annotations

import base64
import json
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from tdm_core.generation.media import encode_png
from tdm_core.generation.sample import Role
from tdm_core.ui import viewer
from tests.ui.fakes import gradient

PAGE = f"""<!doctype html><html><body style="margin:0"><style>#host {{ width: 1000px; {viewer.STYLE} }}</style>
<div id="host">{viewer.TEMPLATE}</div></body></html>"""
MOUNT = """(items) => {
  window.value = { rev: 1, items };
  window.api = mount(document.querySelector(".tdm-viewer"), {
    locked: Boolean(window.locked), below: 40, read: () => window.value, stop: () => {},
    listen: (draw) => { window.draw = draw; },
  });
}"""
LOOK = "() => [...document.querySelectorAll('.tdm-layer')].filter((l) => !l.hidden).map((l) => l.dataset.id)"
TRANSFORMS = "() => [...document.querySelectorAll('.tdm-canvas')].map((c) => c.style.transform)"
BARE = """.tdm-handle, .tdm-label { visibility: hidden } .tdm-stage { outline: none !important }
.tdm-layer { border-radius: 0 !important }"""  # two rounded corners over each other are not quite one


def item(name, pixels, **more):
    url = "data:image/png;base64," + base64.b64encode(encode_png(pixels)).decode()
    return {"id": name, "label": name.title(), "state": "ready", "seconds": 1.5, "src": url} | more


def shot(page):
    """The stage's pixels."""
    return np.asarray(Image.open(BytesIO(page.locator(".tdm-stage").screenshot())).convert("RGB"))


@pytest.fixture
def show(open_page):
    def show_(*items, locked=False, width=1280, **options):
        page = open_page("", width=width, **options)
        page.set_content(PAGE if width >= 1000 else PAGE.replace("width: 1000px", f"width: {width}px"))
        page.evaluate(f"window.locked = {json.dumps(locked)}")
        page.add_script_tag(content=viewer.SCRIPT + "\nwindow.mount = mount;")
        page.evaluate(MOUNT, list(items))
        page.wait_for_function("document.querySelector('.tdm-viewer').dataset.painted === '1'")
        page.locator(".tdm-stage").focus()
        return page

    return show_


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
    for step in range(1, 9):
        page.evaluate("window.value = { ...window.value }; window.draw()")
        page.mouse.move(x + 15 * step, y)
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
