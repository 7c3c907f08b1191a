"""One comparison as the viewer shows it: what was asked, and what each side has made of it so far.

No Gradio here: a board is fed with a sampler's events and read as the plain value of ``viewer.js``.
"""

from __future__ import annotations

import base64
import io
import itertools
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from PIL import Image

from tdm_core.errors import RequestError, TDMError
from tdm_core.generation.presets import Preset, StudentSettings, TeacherSettings
from tdm_core.generation.sample import Progress, Role, Sample, Sampler, SampleRequest
from tdm_core.ui import texts

MAX_STUDENT_STEPS = 8
SECONDS_BETWEEN_TICKS = 0.1  # the browser's clock fills the time between
PREVIEW_WIDTH_PX = 256
UNREAD_CHARACTERS = 80  # of the end that was not read, so that the line below the pictures stays one
MEASURED = ("steps", "nfe", "guidance_scale", "scheduler", "seconds", "denoiser_seconds", "noise_sha256", "trained")

logger = logging.getLogger(__name__)
_revisions = itertools.count(1)


class Side(StrEnum):
    """What stands beside each other, in the viewer's order: the three roles of a system, and one further student."""

    TEACHER = "teacher"
    TEACHER_FEW = "teacher_few"
    BESIDE = "beside"
    STUDENT = "student"

    @property
    def role(self) -> Role:
        return Role.STUDENT if self is Side.BESIDE else Role(self.value)


def comparable(one: Preset, other: Preset) -> bool:
    """May the other's student stand beside this system?  Equal latents, so that equal seeds are equal noise."""
    shapes = [(each.family, each.media, each.width, each.height, each.frames) for each in (one, other)]
    return one.name != other.name and shapes[0] == shapes[1]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a visitor asks for: one prompt and seed for all sides.

    Raises:
        RequestError: if a value lies outside its range; the message names the range.
    """

    preset: Preset
    prompt: str
    seed: int
    student_steps: int
    teacher_steps: int
    guidance: float | None = None
    """The teacher's; these three as the preset says if ``None``."""
    strength: float | None = None
    flow_shift: float | None = None
    beside: Preset | None = None
    """Another system, whose student is shown too, in as many steps."""

    def __post_init__(self) -> None:
        for side in self.sides:
            self.request(side)
        if self.beside and not comparable(self.preset, self.beside):
            raise RequestError(f"{self.beside.title} cannot stand beside {self.preset.title}: another model or size.")
        least = self.preset.teacher.steps
        if self.student_steps > MAX_STUDENT_STEPS:
            raise RequestError(f"Student steps: {self.student_steps}; choose 1 to {MAX_STUDENT_STEPS}.")
        if self.teacher_steps < least:
            raise RequestError(f"Teacher steps: {self.teacher_steps}; choose {least} to 100.")

    @property
    def sides(self) -> list[Side]:
        return [side for side in Side if side is not Side.BESIDE or self.beside]

    def request(self, side: Side) -> SampleRequest:
        settings = self._settings(side)
        is_student = side.role is Role.STUDENT
        return SampleRequest(
            preset=self._preset(side).name,
            role=side.role,
            prompt=self.prompt,
            seed=self.seed,
            steps=self.teacher_steps if side is Side.TEACHER else self.student_steps,
            guidance_scale=None if is_student else self.guidance,
            strength=self.strength if side is Side.STUDENT else None,
            flow_shift=None if settings.flow_shift is None else self.flow_shift,
        )

    def _preset(self, side: Side) -> Preset:
        return self.beside if side is Side.BESIDE and self.beside else self.preset

    def _settings(self, side: Side) -> StudentSettings | TeacherSettings:
        preset = self._preset(side)
        return preset.student if side.role is Role.STUDENT else preset.teacher

    def nfe(self, side: Side) -> int:
        """Network evaluations to expect; the engine counts the real ones."""
        settings, request = self._settings(side), self.request(side)
        guidance = settings.guidance_scale if request.guidance_scale is None else request.guidance_scale
        return (request.steps or 0) * (2 if guidance > 1 else 1)

    def link(self) -> dict[str, str]:
        """The query of an address that asks for the same again."""
        extras = {"guidance": self.guidance, "strength": self.strength, "shift": self.flow_shift}
        return {
            "system": self.preset.name,
            "prompt": self.prompt,
            "seed": str(self.seed),
            "student": str(self.student_steps),
            "teacher": str(self.teacher_steps),
            **{name: f"{value:g}" for name, value in extras.items() if value is not None},
            **({"beside": self.beside.name} if self.beside else {}),
        }


class Board:
    """The sides of one comparison with their states, clocks and pictures.

    Args:
        waiting: what the cards say before their run begins.
        keep: stores a picture losslessly, or a clip, and returns what the viewer fetches it by.
        recorded: the clocks are those of an earlier run.
    """

    def __init__(
        self,
        asked: Comparison,
        sample: Sampler,
        keep: Callable[[np.ndarray, str], Any],
        *,
        waiting: str = texts.WAITING,
        recorded: bool = False,
    ) -> None:
        self.asked, self._sample, self._keep, self._waiting, self._recorded = asked, sample, keep, waiting, recorded
        self.samples: dict[Side, Sample] = {}
        self.stopped = False
        self._revision = next(_revisions)
        self._unclaimed = set(asked.sides)
        self._files: list[dict[str, Any]] = []
        self._items: dict[Side, dict[str, Any]] = {side: self._new_item(side) for side in asked.sides}

    def claim(self, side: Side) -> bool:
        """True once per side, so that two events of one page never run the same one twice."""
        if side not in self._unclaimed:
            return False
        self._unclaimed.remove(side)
        return True

    def run(self, side: Side) -> Iterator[None]:
        """Make one side's sample; yields whenever the viewer has something new to show.

        A failure stays on its own card: the others remain as they are.
        """
        last_tick = 0.0
        try:
            with closing(self._sample(self.asked.request(side))) as events:  # type: ignore[type-var]
                for event in events:
                    if self.stopped:
                        self._fail(side, texts.STOPPED)
                        break
                    self._take(side, event)
                    now = time.monotonic()
                    if (
                        isinstance(event, Sample)
                        or event.preview is not None
                        or now - last_tick > SECONDS_BETWEEN_TICKS
                    ):
                        last_tick = now
                        yield
        except TDMError as error:
            self._fail(side, str(error))
        except Exception:  # the border to the page: a bug must not leave a card that waits for ever
            logger.exception("the sample of side %s failed", side)
            self._fail(side, texts.SURPRISE)
        yield

    def stop(self) -> None:
        """Ends the side that runs at its next step; those that have not begun will not begin."""
        self.stopped = True
        for side in self._unclaimed:
            self._fail(side, texts.STOPPED)
        self._unclaimed.clear()

    def numbers(self) -> dict[str, Any]:
        """The settings and clocks for programs: the API's answer and the downloaded JSON."""
        measured = (
            "steps",
            "nfe",
            "guidance_scale",
            "scheduler",
            "seconds",
            "denoiser_seconds",
            "noise_sha256",
            "trained",
            "batch_size",
        )
        sides = {str(side): {name: getattr(made, name) for name in measured} for side, made in self.samples.items()}
        return {
            "preset": self.asked.preset.name,
            "prompt": self.asked.prompt,
            "seed": self.asked.seed,
            "strength": self.asked.strength,
            "flow_shift": self.asked.flow_shift,
            "unread": self._unread(),
            "speed_up": self._speed_up(Side.STUDENT),
            **({"beside_preset": self.asked.beside.name} if self.asked.beside else {}),
            **sides,
        }

    def value(self) -> dict[str, Any]:
        """What the viewer reads; see the head of ``viewer.js``."""
        for side in self.samples:
            ratio = self._speed_up(side) if side is not Side.TEACHER else None
            self._items[side]["badge"] = texts.FASTER.format(ratio=ratio) if ratio else ""
        return {
            "rev": self._revision,
            "prompt": self.asked.prompt,
            "link": self.asked.link(),
            "fresh": not self._recorded,
            "fps": self.asked.preset.fps,
            "files": self._files,
            "foot": self._foot(),
            "settings": self.numbers() if self.samples else None,
            "items": [dict(item) for item in self._items.values()],
        }

    def _new_item(self, side: Side) -> dict[str, Any]:
        steps = self.asked.request(side).steps
        labels = {Side.TEACHER: texts.TEACHER, Side.TEACHER_FEW: texts.TEACHER_FEW.format(steps=steps)}
        others = {Side.STUDENT: texts.STUDENT, Side.BESIDE: self.asked.beside.title if self.asked.beside else ""}
        label = (labels | others)[side]
        note = texts.STEPS_AND_NFE.format(steps=steps, nfe=self.asked.nfe(side))
        alt = f"{label}: {self.asked.prompt}"
        progress = {"state": "queued", "message": self._waiting, "steps": steps, "step": 0}
        return {"id": str(side), "label": label, "note": note, "alt": alt} | progress

    def _take(self, side: Side, event: Progress | Sample) -> None:
        item = self._items[side]
        if isinstance(event, Progress) and event.ahead:
            item |= {"message": texts.AHEAD.format(n=event.ahead)}
            return
        if isinstance(event, Progress):
            item |= {"state": "running", "step": event.step, "steps": event.steps, "elapsed": event.elapsed_seconds}
            if event.preview is not None:
                item["preview"] = preview_url(event.preview)
            return
        self.samples[side] = event
        note = texts.STEPS_AND_NFE.format(steps=event.steps, nfe=event.nfe)
        item |= {"state": "ready", "seconds": event.seconds, "src": self._keep(event.media, str(side))}
        item |= {"note": " · ".join([note, *self._asides(event)])}
        if event.kind == "video":
            item["frames"] = len(event.media)
            self._pack_pair()

    @staticmethod
    def _asides(made: Sample) -> list[str]:
        """What a reader of the clock should know besides."""
        batched = [texts.BATCHED.format(size=made.batch_size)] if made.batch_size > 1 else []
        return [*([] if made.trained else [texts.UNTRAINED]), *batched]

    def _pack_pair(self) -> None:
        """Once both are there: teacher and student beside each other in one clip, to download."""
        if {Side.TEACHER, Side.STUDENT} <= self.samples.keys():
            both = np.concatenate([self.samples[side].media for side in (Side.TEACHER, Side.STUDENT)], axis=2)
            self._files = [{"label": texts.PAIR_CLIP, "src": self._keep(both, "pair"), "name": "pair.mp4"}]

    def _fail(self, side: Side, message: str) -> None:
        self._items[side] |= {"state": "failed", "message": message}

    def _speed_up(self, side: Side) -> float | None:
        if side not in self.samples or Side.TEACHER not in self.samples:
            return None
        return self.samples[Side.TEACHER].seconds / self.samples[side].seconds

    def _unread(self) -> str:
        """The end of the prompt that was not read; the same for all sides, which share their text encoders."""
        return next((made.unread for made in self.samples.values()), "")

    def _foot(self) -> list[str]:
        """Sentences that hold for all sides."""
        unread = " ".join(self._unread().split())
        cut = f"{unread[:UNREAD_CHARACTERS]}…" if len(unread) > UNREAD_CHARACTERS else unread
        foot = [texts.UNREAD.format(prompt=cut)] if cut else []
        if len(self.samples) < len(self._items):
            return foot
        noises = {made.noise_sha256 for made in self.samples.values()}
        if len(noises) > 1:
            return [*foot, texts.OTHER_NOISE]
        foot.append(texts.SAME_NOISE.format(sha=noises.pop()[:8]))
        return [*foot, texts.RECORDED] if self._recorded else foot


def preview_url(pixels: np.ndarray) -> str:
    """A rough picture small enough to travel inside the value."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((PREVIEW_WIDTH_PX, PREVIEW_WIDTH_PX))
    file = io.BytesIO()
    picture.save(file, format="WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
