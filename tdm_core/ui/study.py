"""The Blind study tab: the same viewer, locked, fed by our own HTTP routes and never by Gradio's events.

Nothing about a trial passes through this component: what Gradio sends along (clocks, file names, component values)
would tell the sides apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from tdm_core.ui import viewer

HERE = Path(__file__).parent
_TEMPLATE = (HERE / "study.html").read_text(encoding="utf-8").replace("<!-- viewer -->", viewer.TEMPLATE)
_STYLE = viewer.STYLE + (HERE / "study.css").read_text(encoding="utf-8")
_SCRIPT = viewer.SCRIPT + (HERE / "study.js").read_text(encoding="utf-8")


def blind_study(**options: Any) -> gr.HTML:
    """The whole tab; its state lives in ``study.js``. Its event ``ended`` says that the visitor wants the result."""
    return viewer.static_html(_TEMPLATE, _STYLE, _SCRIPT, **options)
