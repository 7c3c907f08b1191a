"""The plain values of generation: what is asked for, what is reported meanwhile, what comes back.

No torch here: these values travel to the page, the bank, the evaluation and across process borders.
This is also the one home of what a prompt, a seed, a step count and a guidance scale may be.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np

from tdm_core.errors import RequestError

MAX_PROMPT_CHARACTERS = 2000  # VBench's lengthened prompts are past 500
MAX_SEED = 2**32 - 1
MAX_STEPS = 100
MAX_GUIDANCE_SCALE = 30.0
MAX_FLOW_SHIFT = 6.0
MAX_STRENGTH = 2.0

MediaKind = Literal["image", "video"]


class Role(StrEnum):
    """Who makes the sample; all roles start from the same noise."""

    TEACHER = "teacher"
    TEACHER_FEW = "teacher_few"
    """The teacher's weights and guidance at the student's number of steps."""
    STUDENT = "student"


class Grid(StrEnum):
    """Where the steps of a run lie in time."""

    SCHEDULER = "scheduler"
    """What the scheduler itself makes of the step count."""
    UNIFORM = "uniform"
    """sigma = 1, 1 - 1/K, ..., 1/K."""
    STUDENT = "student"
    """The nodes that the student was trained on, uniform where it has none for K."""


@dataclass(frozen=True, kw_only=True)
class SampleRequest:
    """One sample of one role; ``None`` means as the preset says.

    Raises:
        RequestError: if a value lies outside its range; the message names the range.
    """

    preset: str
    role: Role
    prompt: str
    seed: int
    steps: int | None = None
    guidance_scale: float | None = None
    """1.0 means none."""
    grid: Grid | None = None
    flow_shift: float | None = None
    """How far a flow model's scheduler moves its steps towards noise; only for presets whose scheduler has it."""
    strength: float | None = None
    """Of the student's LoRA, in units of what the preset says: 0 is the base alone, 1 as published."""

    def __post_init__(self) -> None:
        check_prompt(self.prompt)
        check_seed(self.seed)
        if self.steps is not None:
            check_steps(self.steps)
        if self.guidance_scale is not None:
            check_guidance_scale(self.guidance_scale)
        if self.flow_shift is not None:
            check_flow_shift(self.flow_shift)
        if self.strength is not None:
            check_strength(self.strength)


@dataclass(frozen=True, kw_only=True, eq=False)
class Progress:
    """How far a run is; ``step`` steps of ``steps`` are done."""

    step: int
    steps: int
    elapsed_seconds: float
    preview: np.ndarray | None = None
    """What the latents decode to at this step, uint8 [H, W, 3]; the teacher only, now and then.  In a trajectory: what
    the network takes the finished picture to be."""
    time: float | None = None
    """In a trajectory: where the step began, 1 for noise; a flow model's sigma, ``(timestep + 1) / 1000`` of others."""
    ahead: int = 0
    """How many runs go before this one, which waits; 0 once it runs."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """A finished sample with its honest figures."""

    media: np.ndarray
    """uint8 [H, W, 3] for an image, [F, H, W, 3] for a video."""
    kind: MediaKind
    steps: int
    nfe: int
    """Network evaluations as counted; a step with guidance is two."""
    guidance_scale: float
    scheduler: str
    seconds: float
    """Text to pixels as if the role ran alone and warm, without previews; in a batch, its share."""
    denoiser_seconds: float
    """The denoising loop alone, without text encoding, decoding and previews."""
    text_seconds: float | None = None
    """Before the loop: text encoding.  What neither clock holds is decoding."""
    device_memory_mb: float | None = None
    """The most that the run held on an accelerator; None without one."""
    noise_sha256: str
    """Of the start noise's float32 bytes, so that equal noise on all sides can be checked."""
    sigmas: tuple[float, ...] = ()
    """The time nodes of the run, noisiest first, without the final 0: a flow model's sigmas, ``(timestep + 1) / 1000``
    of the others."""
    unread: str = ""
    """The end of the prompt that the text encoders did not read."""
    trained: bool = True
    """False for a student at a step count that it has no nodes for."""
    batch_size: int = 1
    """How many samples were made at once; the clocks are its share."""


Sampler = Callable[[SampleRequest], Iterator[Progress | Sample]]
"""What the page, the bank and the evaluation take: `Engine.sample` or a fake of it."""


def finish(events: Iterable[Progress | Sample]) -> Sample:
    """Run to the end and return the sample, which is the last event."""
    last = deque(events, maxlen=1).pop()
    assert isinstance(last, Sample), "a sampler ends with its sample"
    return last


def check_prompt(prompt: str) -> None:
    """Any text will do, within reason: it is encoded, never run."""
    if not prompt.strip():
        raise RequestError("The prompt is empty: describe the picture in a few words.")
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        raise RequestError(
            f"The prompt has {len(prompt):,} characters; at most {MAX_PROMPT_CHARACTERS} are allowed: shorten it."
        )
    if "\0" in prompt or any("\ud800" <= character <= "\udfff" for character in prompt):
        raise RequestError("The prompt has characters that are not text (NUL or half a surrogate pair): remove them.")


def check_seed(seed: int) -> None:
    if not _is_integer(seed) or not 0 <= seed <= MAX_SEED:
        raise RequestError(f"The seed is {seed}; it must be a whole number from 0 to {MAX_SEED}.")


def check_steps(steps: int) -> None:
    if not _is_integer(steps) or not 1 <= steps <= MAX_STEPS:
        raise RequestError(f"The number of steps is {steps}; it must be a whole number from 1 to {MAX_STEPS}.")


def check_guidance_scale(guidance_scale: float) -> None:
    if not (math.isfinite(guidance_scale) and 1.0 <= guidance_scale <= MAX_GUIDANCE_SCALE):
        raise RequestError(
            f"The guidance scale is {guidance_scale}; it must lie between 1 (none) and {MAX_GUIDANCE_SCALE:g}."
        )


def check_flow_shift(flow_shift: float) -> None:
    if not (math.isfinite(flow_shift) and 1.0 <= flow_shift <= MAX_FLOW_SHIFT):
        raise RequestError(f"The flow shift is {flow_shift}; it must lie between 1 (none) and {MAX_FLOW_SHIFT:g}.")


def check_strength(strength: float) -> None:
    if not (math.isfinite(strength) and 0.0 <= strength <= MAX_STRENGTH):
        raise RequestError(f"The strength is {strength}; it must lie between 0 (the base) and {MAX_STRENGTH:g}.")


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
