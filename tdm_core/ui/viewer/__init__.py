"""CompareViewer: the comparison viewer as a Gradio component, a static template and a script that keeps its state.

Nothing that a visitor typed ever enters a template, because Gradio evaluates templates as code in the page; it travels
in the component's value and reaches the page through ``textContent``. ``viewer.js`` states the value's fields.

It is made by a function rather than a subclass of ``gr.HTML``: Gradio writes a ``.pyi`` file beside the source of every
subclass, which nobody asked for and which would hide the source from type checkers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

HERE = Path(__file__).parent
TEMPLATE = (HERE / "viewer.html").read_text(encoding="utf-8")
STYLE = (HERE / "viewer.css").read_text(encoding="utf-8")
PARTS = ("media.js", "difference.js", "clock.js", "loupe.js", "viewer.js")
SCRIPT = "\n".join((HERE / part).read_text(encoding="utf-8") for part in PARTS).replace("\nexport ", "\n")

_FEED = """
const listeners = [];
watch("value", () => listeners.forEach((draw) => draw()));
mount(element.querySelector(".tdm-viewer"), {
  locked: false, below: 40,
  read: () => props.value, listen: (draw) => listeners.push(draw), stop: () => trigger("stop"),
});
"""


def compare_viewer(**options: Any) -> gr.HTML:
    """A viewer whose value a handler may return anew: it redraws what has changed and keeps zoom, mode and divider.

    Its event ``stop`` says that the visitor wants the run to end.
    """
    return static_html(TEMPLATE, STYLE, SCRIPT + _FEED, **options)


def static_html(template: str, style: str, script: str, **options: Any) -> gr.HTML:
    """A component of our own markup: what changes is drawn by its script, never by the template."""
    return gr.HTML(html_template=template, css_template=style, js_on_load=script, apply_default_css=False, **options)
