"""Look closer: the comparison viewer in a dialog over the page, for pairs that other tabs show small."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from tdm_core.ui import viewer

HERE = Path(__file__).parent
_TEMPLATE = (HERE / "closer.html").read_text(encoding="utf-8").replace("<!-- viewer -->", viewer.TEMPLATE)
_STYLE = viewer.STYLE + (HERE / "closer.css").read_text(encoding="utf-8")
_SCRIPT = viewer.SCRIPT + (HERE / "closer.js").read_text(encoding="utf-8")


def look_closer() -> gr.HTML:
    """The dialog, once a page; scripts open it by ``viewer/look.js``."""
    return viewer.static_html(_TEMPLATE, _STYLE, _SCRIPT, elem_id="tdm-closer")
