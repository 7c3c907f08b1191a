"""What the Compare tab's events do.

A run is two events, so that a student never queues behind teachers: the student first, then the cut teacher and the
teacher, all on the same board. A newer run of the same page stops the older one at its next step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gradio as gr
import numpy as np
from gradio import processing_utils, utils
from gradio.data_classes import FileData

from tdm_core.errors import RequestError
from tdm_core.generation.media import encode_mp4, encode_png
from tdm_core.generation.presets import Preset
from tdm_core.generation.sample import Progress, Sample, Sampler, SampleRequest
from tdm_core.ui import texts
from tdm_core.ui.board import Board, Comparison, Side, comparable
from tdm_core.ui.inputs import PageInputs, System
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


@dataclass(frozen=True)
class Fields:
    """What the tab's fields hold, in their order; a wrong type is told beside them like a wrong value."""

    system: str
    prompt: str
    seed: float | None
    student_steps: int
    teacher_steps: int
    guidance: float | None = None
    strength: float | None = None
    flow_shift: float | None = None
    beside: str | None = None


@dataclass
class Handlers:
    inputs: PageInputs
    recorded: dict[SampleRequest, Sample] = field(default_factory=dict)
    """The example's samples, made once per process."""
    loaded: set[str] = field(default_factory=set)
    """Systems that have made a sample, so that nobody who asks for one waits for its weights."""

    @property
    def example(self) -> Comparison:
        """What a page shows that was opened without a link."""
        return self.example_of(self.inputs.preset)

    def example_of(self, preset: Preset) -> Comparison:
        prompt, seed = (preset.examples[0].prompt, preset.examples[0].seed) if preset.examples else ("a cat", 0)
        return Comparison(
            preset=preset,
            prompt=prompt,
            seed=seed,
            student_steps=preset.student.steps,
            teacher_steps=preset.teacher.steps,
        )

    def student(self, *fields_and_desk: Any) -> Iterator[tuple[Value, Value]]:
        """Begin a comparison: its student.  The arguments are those of `Fields`, then the desk."""
        *fields, desk = fields_and_desk
        try:
            asked = self.asked(Fields(*fields))
            self.refuse_absent(asked)
        except RequestError as problem:
            yield gr.skip(), error(str(problem))
        else:
            yield from self._begin(self._board(asked, self.inputs.sample), desk)

    def opening(self, *fields_and_desk: Any) -> Iterator[tuple[Value, Value]]:
        """The same when the page opens; the example is shown from its record."""
        *fields, desk = fields_and_desk
        asked = self.asked(Fields(*fields))
        is_example = asked == self.example
        sample = self._record if is_example else self.inputs.sample
        for value, note in self._begin(self._board(asked, sample, recorded=is_example), desk):
            yield value, gr.skip() if is_example else note  # it may stand in for a link that made no sense, as noted

    def teachers(self, desk: Desk) -> Iterator[Value]:
        """Go on with the further student, if one was asked for, the cut teacher, then the teacher."""
        yield gr.skip()  # a generator that yields nothing would clear the viewer
        board = desk.board
        for side in (Side.BESIDE, Side.TEACHER_FEW, Side.TEACHER):
            if board and board.claim(side):
                yield from self._watch(board, side, desk)

    def linked(self, query: Mapping[str, Any]) -> tuple[Comparison, Value]:
        """What a link asks for, and nothing to note; what makes no sense there is noted and replaced by the example."""
        try:
            name = str(query.get("system", self.inputs.preset.name))
            usual = self.example_of(self.system(name).preset).link()
            wanted = usual | {key: str(value) for key, value in query.items()}
            seed, student, teacher = (int(wanted[key]) for key in ("seed", "student", "teacher"))
            guidance, strength, shift = (
                float(wanted[key]) if key in wanted else None for key in ("guidance", "strength", "shift")
            )
            beside = wanted.get("beside")
            asked = self.asked(
                Fields(name, wanted["prompt"], seed, student, teacher, guidance, strength, shift, beside)
            )
            self.refuse_absent(asked)
            return asked, hint("")
        except (RequestError, ValueError) as problem:
            return self.example, error(texts.BAD_LINK.format(problem=problem))

    def asked(self, fields: Fields) -> Comparison:
        """Raises `RequestError` if a field makes no sense."""
        if fields.seed is None or int(fields.seed) != fields.seed:
            raise RequestError(texts.NO_SEED)
        preset = self.system(fields.system).preset

        def changed(value: float | None, usual: float | None) -> float | None:
            return None if usual is None or value is None or value == usual else float(value)

        return Comparison(
            preset=preset,
            prompt=fields.prompt or "",
            seed=int(fields.seed),
            student_steps=fields.student_steps,
            teacher_steps=fields.teacher_steps,
            guidance=changed(fields.guidance, preset.teacher.guidance_scale),
            strength=changed(fields.strength, 1.0),
            flow_shift=changed(fields.flow_shift, preset.student.flow_shift),
            beside=self.system(fields.beside).preset if fields.beside else None,
        )

    def system(self, name: str) -> System:
        """Raises `RequestError` if there is none of that name."""
        system = self.inputs.systems.get(name)
        if system is None:
            raise RequestError(texts.NO_SUCH_SYSTEM.format(name=str(name)[:60]))
        return system

    def refuse_absent(self, asked: Comparison) -> None:
        """Raises `RequestError` if a system of it cannot run here."""
        for preset in filter(None, (asked.preset, asked.beside)):
            if reasons := self.inputs.why_not(preset.name):
                raise RequestError(texts.CANNOT_RUN.format(title=preset.title, reasons="; ".join(reasons)))

    def students_for(self, preset: Preset) -> list[Preset]:
        """The systems whose student can be shown beside this one, here."""
        others = [system.preset for system in self.inputs.systems.values()]
        return [other for other in others if comparable(preset, other) and not self.inputs.why_not(other.name)]

    def _board(self, asked: Comparison, sample: Sampler, *, recorded: bool = False) -> Board:
        name = asked.preset.name
        is_loaded = name in self.loaded or (asked.preset is self.inputs.preset and self.inputs.is_ready())
        waiting = texts.WAITING if is_loaded else texts.LOADING
        return Board(asked, sample, partial(keep, fps=asked.preset.fps), waiting=waiting, recorded=recorded)

    def _begin(self, board: Board, desk: Desk) -> Iterator[tuple[Value, Value]]:
        desk.begin(board)
        strangers = self.system(board.asked.preset.name).unknown_words(board.asked.prompt)
        words = ", ".join(f"“{word}”" for word in strangers[:5]) + (" …" if len(strangers) > 5 else "")
        yield board.value(), hint(texts.UNKNOWN_WORDS.format(words=words) if strangers else "")
        if board.claim(Side.STUDENT):
            for value in self._watch(board, Side.STUDENT, desk):
                yield value, gr.skip()
        if Side.STUDENT in board.samples:
            self.loaded.add(board.asked.preset.name)

    @staticmethod
    def _watch(board: Board, side: Side, desk: Desk) -> Iterator[Value]:
        for _ in board.run(side):
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


def keep(pixels: np.ndarray, name: str, *, fps: int = 8) -> Value:
    """A lossless picture [H, W, 3], or a clip [F, H, W, 3], in Gradio's cache; its components would re-encode them."""
    is_clip = pixels.ndim == 4
    content, name = (encode_mp4(pixels, fps=fps), f"{name}.mp4") if is_clip else (encode_png(pixels), f"{name}.png")
    path = processing_utils.save_bytes_to_cache(content, name, utils.get_upload_folder())
    return FileData(path=path, orig_name=name).model_dump()
