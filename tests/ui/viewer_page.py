"""The viewer alone in a blank page: no server, pictures and clips made by the test."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from tdm_core.generation.media import encode_mp4, encode_png
from tdm_core.ui import viewer

FPS = 8
BITS, BIT_PX = 8, 16
PAGE = f"""<!doctype html><html><meta name="viewport" content="width=device-width"><body style="margin:0">
<style>#host {{ width: 1000px; {viewer.STYLE} }}</style><div id="host">{viewer.TEMPLATE}</div></body></html>"""
MOUNT = """([items, more]) => {
  window.value = { rev: 1, items, ...more };
  window.api = mount(document.querySelector(".tdm-viewer"), {
    locked: Boolean(window.locked), below: 40, read: () => window.value, stop: () => {},
    listen: (draw) => { window.draw = draw; },
  });
}"""
BARE = """.tdm-handle, .tdm-label, .tdm-mark, .tdm-toast { visibility: hidden } .tdm-stage { outline: none !important }
.tdm-layer { border-radius: 0 !important }"""  # two rounded corners over each other are not quite one


def item(name: str, pixels: np.ndarray, **more: Any) -> dict[str, Any]:
    """A finished picture [H, W, 3] or clip [F, H, W, 3]."""
    is_clip = pixels.ndim == 4
    content = encode_mp4(pixels, fps=FPS) if is_clip else encode_png(pixels)
    url = f"data:{'video/mp4' if is_clip else 'image/png'};base64,{base64.b64encode(content).decode()}"
    frames = len(pixels) if is_clip else 1
    return {"id": name, "label": name.title(), "state": "ready", "seconds": 1.5, "src": url, "frames": frames} | more


def barcodes(frames: int, *, tint: int = 0) -> np.ndarray:
    """A clip whose frames show their own number in black and white bars; uint8 [F, 32, 128, 3]."""
    clip = np.zeros((frames, 32, BITS * BIT_PX, 3), np.uint8)
    for frame in range(frames):
        for bit in range(BITS):
            clip[frame, :, bit * BIT_PX : (bit + 1) * BIT_PX] = 235 if frame >> bit & 1 else 20
    clip[..., tint] = np.clip(clip[..., tint].astype(int) + 15, 0, 255)
    return clip


PAINTED = f"""() => [...document.querySelectorAll(".tdm-layer[data-id] > .tdm-canvas")].map((canvas) => {{
  const data = canvas.getContext("2d").getImageData(0, canvas.height / 2, canvas.width, 1).data;
  let frame = 0;
  for (let bit = 0; bit < {BITS}; bit++) if (data[4 * (bit * {BIT_PX} + {BIT_PX // 2}) + 1] > 128) frame |= 1 << bit;
  return frame;
}})"""
"""The numbers that are read from the pixels of each pane."""


def shot(page: Any) -> np.ndarray:
    """The stage's pixels."""
    return np.asarray(Image.open(BytesIO(page.locator(".tdm-stage").screenshot())).convert("RGB"))


def show_viewer(
    open_page: Any,
    *items: dict[str, Any],
    locked: bool = False,
    width: int = 1280,
    value: dict[str, Any] | None = None,
    url_hash: str = "",
    **options: Any,
) -> Any:
    """A page with the viewer, its pictures painted and the focus on them."""
    page = open_page(f"about:blank{url_hash}", width=width, **options)
    page.set_content(PAGE if width >= 1000 else PAGE.replace("width: 1000px", f"width: {width}px"))
    page.evaluate(f"window.locked = {json.dumps(locked)}")
    page.add_script_tag(content=f"{viewer.SCRIPT}\nObject.assign(window, {{ mount, decodeClip, difference }});")
    page.evaluate(MOUNT, [list(items), value or {}])
    page.wait_for_function("document.querySelector('.tdm-viewer').dataset.painted === '1'")
    page.locator(".tdm-stage").focus()
    return page
