"""What the Compare tab's events do.

A run is two events, so that a student never queues behind teachers: the student first, then the cut teacher and the
teacher, all on the same board. A newer run of the same page stops the older one at its next step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
import numpy as np
from gradio import processing_utils, utils
from gradio.data_classes import FileData

from tdm_core.errors import RequestError
from tdm_core.generation.media import encode_png
from tdm_core.generation.sample import Progress, Role, Sample, Sampler, SampleRequest
from tdm_core.ui import texts
from tdm_core.ui.board import Board, Comparison
from tdm_core.ui.inputs import PageInputs
from tdm_core.ui.line import error, hint

Value = dict[str, Any]


@dataclass
class Desk:
    """One open page: the board that it looks at."""

    board: Board | None = None

    def begin(self, board: Board) -> None:
        self.stop()
        self.board = board

    def stop(self) -> None:
        if self.board:
            self.board.stop()


@dataclass
class Handlers:
    inputs: PageInputs
    recorded: dict[SampleRequest, Sample] = field(default_factory=dict)
    """The example's samples, made once per process."""

    @property
    def example(self) -> Comparison:
        """What a page shows that was opened without a link."""
        preset = self.inputs.preset
        prompt, seed = (preset.examples[0].prompt, preset.examples[0].seed) if preset.examples else ("a cat", 0)
        return self._asked(prompt, seed, preset.student.steps, preset.teacher.steps)

    def student(
        self, prompt: str, seed: float | None, student_steps: int, teacher_steps: int, made: str, desk: Desk
    ) -> Iterator[tuple[Value, Value]]:
        """Begin a comparison: its student."""
        try:
            asked = self._asked(prompt, seed, student_steps, teacher_steps, made)
        except RequestError as problem:
            yield gr.skip(), error(str(problem))
        else:
            yield from self._begin(self._board(asked, self.inputs.sample), desk)

    def opening(
        self, prompt: str, seed: float, student_steps: int, teacher_steps: int, made: str, desk: Desk
    ) -> Iterator[tuple[Value, Value]]:
        """The same when the page opens; the example is shown from its record."""
        asked = self._asked(prompt, seed, student_steps, teacher_steps, made)
        is_example = asked == self.example
        sample = self._record if is_example else self.inputs.sample
        yield from self._begin(self._board(asked, sample, recorded=is_example), desk)

    def teachers(self, desk: Desk) -> Iterator[Value]:
        """Go on with the cut teacher, then the teacher."""
        yield gr.skip()  # a generator that yields nothing would clear the viewer
        board = desk.board
        for role in (Role.TEACHER_FEW, Role.TEACHER):
            if board and board.claim(role):
                yield from self._watch(board, role, desk)

    def restore(self, request: gr.Request) -> tuple[str, int, int, int, gr.Dropdown, Value]:
        """The fields from the page's address; what makes no sense there is said and replaced by the example."""
        usual = self.example.link()
        wanted = usual | {name: request.query_params[name] for name in usual if name in request.query_params}
        try:
            seed, student, teacher = (int(wanted[name]) for name in ("seed", "student", "teacher"))
            made = request.query_params.get("made", "")
            asked, note = self._asked(wanted["prompt"], seed, student, teacher, made), hint("")
        except (RequestError, ValueError) as problem:
            asked, note = self.example, error(texts.BAD_LINK.format(problem=problem))
        return asked.prompt, asked.seed, asked.student_steps, asked.teacher_steps, self.choice(asked.made), note

    def choice(self, made: str = "") -> gr.Dropdown:
        """Which students there are to choose from; hidden while there is only one."""
        others = self.inputs.students()
        choices = [(texts.OWN_STUDENT, ""), *((preset.title, name) for name, preset in others.items())]
        return gr.Dropdown(choices, value=made, visible=bool(others))

    def _asked(
        self, prompt: str, seed: float | None, student_steps: int, teacher_steps: int, made: str = ""
    ) -> Comparison:
        if seed is None or int(seed) != seed:
            raise RequestError(texts.NO_SEED)
        others = self.inputs.students() if made else {}
        if made and made not in others:
            raise RequestError(texts.NO_STUDENT.format(name=made[:60]))
        return Comparison(
            preset=others[made] if made else self.inputs.preset,
            prompt=prompt or "",
            seed=int(seed),
            student_steps=student_steps,
            teacher_steps=teacher_steps,
            made=made,
        )

    def _board(self, asked: Comparison, sample: Sampler, *, recorded: bool = False) -> Board:
        waiting = texts.WAITING if self.inputs.is_ready() else texts.LOADING
        return Board(asked, sample, keep, waiting=waiting, recorded=recorded)

    def _begin(self, board: Board, desk: Desk) -> Iterator[tuple[Value, Value]]:
        desk.begin(board)
        strangers = self.inputs.unknown_words(board.asked.prompt)
        words = ", ".join(f"“{word}”" for word in strangers[:5]) + (" …" if len(strangers) > 5 else "")
        yield board.value(), hint(texts.UNKNOWN_WORDS.format(words=words) if strangers else "")
        if board.claim(Role.STUDENT):
            for value in self._watch(board, Role.STUDENT, desk):
                yield value, gr.skip()

    @staticmethod
    def _watch(board: Board, role: Role, desk: Desk) -> Iterator[Value]:
        for _ in board.run(role):
            if desk.board is not board:  # a newer run has the viewer
                return
            yield board.value()

    def _record(self, request: SampleRequest) -> Iterator[Progress | Sample]:
        if request in self.recorded:
            yield self.recorded[request]
            return
        for event in self.inputs.sample(request):
            if isinstance(event, Sample):
                self.recorded[request] = event
            yield event


def keep(pixels: np.ndarray, name: str) -> Value:
    """A lossless file in Gradio's cache; Gradio's own components would re-encode the pixels."""
    path = processing_utils.save_bytes_to_cache(encode_png(pixels), name, utils.get_upload_folder())
    return FileData(path=path, orig_name=name).model_dump()
