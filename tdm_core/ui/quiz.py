"""The Quiz tab: a static template whose script asks our own routes."""

from __future__ import annotations

from pathlib import Path
from string import Template
from typing import Any

import gradio as gr

from tdm_core.generation.presets import Preset
from tdm_core.ui import viewer

HERE = Path(__file__).parent
_TEMPLATE = Template((HERE / "quiz.html").read_text(encoding="utf-8"))
_SCRIPT = viewer.script("look.js") + (HERE / "quiz.js").read_text(encoding="utf-8")
# The blind tab's panels and progress bar are the quiz's, too; either tab may be the first that is shown.
_STYLE = (HERE / "study.css").read_text(encoding="utf-8") + (HERE / "quiz.css").read_text(encoding="utf-8")


def quiz_tab(preset: Preset, **options: Any) -> gr.HTML:
    guided = 2 if preset.teacher.guidance_scale > 1 else 1
    student_guided = 2 if preset.student.guidance_scale > 1 else 1
    words = _TEMPLATE.substitute(
        teacher_nfe=guided * preset.teacher.steps, student_nfe=student_guided * preset.student.steps
    )
    return viewer.static_html(words, _STYLE, _SCRIPT, **options)
