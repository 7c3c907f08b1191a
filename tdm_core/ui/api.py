"""The page's one endpoint for programs: ``gradio_client.Client(url).predict(..., api_name="/compare")``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr

from tdm_core.errors import TDMError
from tdm_core.generation.presets import Preset
from tdm_core.generation.sample import Role, Sampler, finish
from tdm_core.ui.board import Board, Comparison
from tdm_core.ui.desk import keep

QUICKEST_FIRST = (Role.STUDENT, Role.TEACHER_FEW, Role.TEACHER)


def compare_endpoint(sample: Sampler, preset: Preset) -> Callable[..., tuple[dict, dict, dict, dict]]:
    default_student_steps, default_teacher_steps = preset.student.steps, preset.teacher.steps

    def compare(
        prompt: str,
        seed: int = 7,
        student_steps: int = default_student_steps,
        teacher_steps: int = default_teacher_steps,
    ) -> tuple[dict, dict, dict, dict]:
        """The PNG files of the teacher, the cut teacher and the student for one prompt and seed, and the numbers."""
        try:
            asked = Comparison(
                preset=preset, prompt=prompt, seed=seed, student_steps=student_steps, teacher_steps=teacher_steps
            )
            board = Board(asked, sample, partial(keep, fps=preset.fps))
            board.samples |= {role: finish(sample(asked.request(role))) for role in QUICKEST_FIRST}
        except TDMError as problem:
            raise gr.Error(str(problem)) from None
        teacher, teacher_few, student = (_file(board, role) for role in Role)
        return teacher, teacher_few, student, board.numbers()

    return compare


def _file(board: Board, role: Role) -> dict[str, Any]:
    return keep(board.samples[role].media, str(role), fps=board.asked.preset.fps)
