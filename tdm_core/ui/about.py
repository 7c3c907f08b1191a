"""The About tab: what the page shows, how the student was made, licences, privacy."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from string import Template

import gradio as gr

from tdm_core.generation.presets import Preset

_FOLDER = Path(__file__).parent
_TEMPLATES = {  # an essay is translated as a whole; the style sheet shows the one in the page's language
    language: Template((_FOLDER / name).read_text(encoding="utf-8"))
    for language, name in (("en", "about.html"), ("zh-Hans", "about.zh.html"))
}


def about_tab(preset: Preset) -> None:
    gr.HTML(about_html(preset), js_on_load=None, elem_id="tdm-about")


def about_html(preset: Preset) -> str:
    teacher_nfe = preset.teacher.steps * (2 if preset.teacher.guidance_scale > 1 else 1)
    student_nfe = preset.student.steps * (2 if preset.student.guidance_scale > 1 else 1)
    values = {
        "title": preset.title,
        "licence": preset.licence,
        "notes": preset.notes,
        "size": f"{preset.width} × {preset.height}",
        "teacher_steps": preset.teacher.steps,
        "teacher_nfe": teacher_nfe,
        "student_steps": preset.student.steps,
        "student_nfe": student_nfe,
    }
    escaped = {name: escape(str(value)) for name, value in values.items()}
    escaped["notes"] = re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped["notes"])
    return "".join(
        f'<div lang="{language}" data-as-is>{template.substitute(escaped)}</div>'
        for language, template in _TEMPLATES.items()
    )
