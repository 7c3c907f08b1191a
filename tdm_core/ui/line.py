"""A line of text that may hold a visitor's words: an error beside its field, or a hint."""

from __future__ import annotations

from typing import Any

import gradio as gr

from tdm_core.ui.viewer import static_html

_TEMPLATE = '<p class="tdm-line" role="status" hidden></p>'
_SCRIPT = """
const line = element.querySelector(".tdm-line");
function show() {
  const { text, kind } = props.value ?? {};
  Object.assign(line, { textContent: text ?? "", hidden: !text, className: `tdm-line tdm-${kind ?? "hint"}` });
}
watch("value", show);
show();
"""


def text_line(**options: Any) -> gr.HTML:
    """Shows the value of `hint` or `error` as text, whatever it holds."""
    return static_html(_TEMPLATE, "", _SCRIPT, **options)


def hint(text: str) -> dict[str, str]:
    return {"kind": "hint", "text": text}


def error(text: str) -> dict[str, str]:
    return {"kind": "error", "text": text}
