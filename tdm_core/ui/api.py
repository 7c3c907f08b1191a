"""The page's endpoints for programs, by ``gradio_client``, plain HTTP or MCP: ``/compare`` and ``/results``.

Nothing of an open study is among them: results are refused until it is closed, and the study's own routes serve
whoever holds a rater's cookie alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr

from tdm_core.errors import TDMError
from tdm_core.generation.sample import finish
from tdm_core.study.analysis import StudyReport
from tdm_core.ui.board import Board, Comparison, Side
from tdm_core.ui.desk import Handlers, keep

QUICKEST_FIRST = (Side.STUDENT, Side.TEACHER_FEW, Side.TEACHER)


def compare_endpoint(handlers: Handlers) -> Callable[..., tuple[dict, dict, dict, dict]]:
    sample, default_system = handlers.inputs.sample, handlers.inputs.preset.name

    def compare(
        prompt: str,
        seed: int = 7,
        student_steps: int | None = None,
        teacher_steps: int | None = None,
        system: str = default_system,
    ) -> tuple[dict, dict, dict, dict]:
        """Draw one prompt and seed with the teacher, the teacher cut short, and the few-step student.

        Args:
            prompt: what to draw.
            seed: a whole number from 0; equal seeds start all three from equal noise.
            student_steps: steps of the student and of the cut teacher, 1 to 8; as the system says if not given.
            teacher_steps: steps of the full teacher, up to 100; as the system says if not given.
            system: which teacher and student, by the name in the page's Systems tab.

        Returns:
            The three pictures as PNG files (clips as MP4) in that order, and the numbers: steps, network evaluations,
            seconds, and the end of a long prompt that no text encoder read.
        """
        try:
            preset = handlers.system(system).preset
            asked = Comparison(
                preset=preset,
                prompt=prompt,
                seed=seed,
                student_steps=preset.student.steps if student_steps is None else student_steps,
                teacher_steps=preset.teacher.steps if teacher_steps is None else teacher_steps,
            )
            handlers.refuse_absent(asked)
            board = Board(asked, sample, partial(keep, fps=preset.fps))
            board.samples |= {side: finish(sample(asked.request(side))) for side in QUICKEST_FIRST}
        except TDMError as problem:
            raise gr.Error(str(problem)) from None
        student, teacher_few, teacher = (_file(board, side) for side in QUICKEST_FIRST)
        return teacher, teacher_few, student, board.numbers()

    return compare


def results_endpoint(results: Callable[[], StudyReport]) -> Callable[[], dict[str, Any]]:
    def closed_results() -> dict[str, Any]:
        """What the votes of the closed blind study say, with intervals; refused while it is open."""
        try:
            return results().to_json()
        except TDMError as problem:
            raise gr.Error(str(problem)) from None

    return closed_results


def _file(board: Board, side: Side) -> dict[str, Any]:
    return keep(board.samples[side].media, str(side), fps=board.asked.preset.fps)
