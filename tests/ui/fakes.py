"""Stand-ins for the engine: coloured gradients with honest progress, made in milliseconds without torch."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tdm_core.generation.media import encode_png
from tdm_core.generation.packed import pack_pair, spoil
from tdm_core.generation.packed_video import pack_videos
from tdm_core.generation.sample import Progress, Role, Sample, SampleRequest
from tests.ui.viewer_page import barcodes

CLIP_PRESETS = ("clips",)
HUES = {Role.TEACHER: (70, 120, 200), Role.TEACHER_FEW: (220, 150, 60), Role.STUDENT: (130, 80, 220)}


def gradient(role: Role, seed: int, size: int = 128) -> np.ndarray:
    """A picture that differs by role and seed, with one-pixel detail.  uint8 [size, size, 3]."""
    y, x = np.mgrid[:size, :size] / (size - 1)
    base = np.array(HUES[role])[None, None] * (0.55 + 0.45 * x[..., None])
    pixels = base + 60 * np.sin((y + x * (seed % 7)) * 12)[..., None] * [0.3, 1, 0.5]
    pixels[::8, ::8] = 255
    return np.clip(pixels, 0, 255).astype(np.uint8)


def moving_gradient(role: Role, seed: int, frames: int = 9, size: int = 64) -> np.ndarray:
    """A clip that moves sideways.  uint8 [frames, size, size, 3]."""
    still = gradient(role, seed, size)
    return np.stack([np.roll(still, 3 * frame, axis=1) for frame in range(frames)])


def fake_trajectory(request: SampleRequest, moments: Sequence[float]) -> Iterator[Progress | Sample]:
    """The student sees its picture at once; the teacher's grows out of grey."""
    *_, sample = FakeSampler(seconds_per_step=0)(request)
    steps, still = sample.steps, sample.media[0] if sample.kind == "video" else sample.media
    for step in range(1, steps + 1):
        time = 1 - (step - 1) / steps
        share = 1 if request.role is Role.STUDENT else step / steps
        guess = (share * still + (1 - share) * 128).astype(np.uint8)
        wanted = not moments or any(abs(time - moment) <= 0.5 / steps for moment in moments)
        yield Progress(step=step, steps=steps, elapsed_seconds=0.1, preview=guess if wanted else None, time=time)
    yield sample


@dataclass
class FakeSampler:
    """Yields real `Progress` and `Sample` values at a chosen pace; ``fail`` maps a role to the error it raises."""

    seconds_per_step: float = 0.004
    fail: dict[Role, Exception] = field(default_factory=dict)
    same: bool = False
    requests: list[SampleRequest] = field(default_factory=list)
    closed: int = 0

    def __call__(self, request: SampleRequest) -> Iterator[Progress | Sample]:
        self.requests.append(request)
        steps = request.steps or (4 if request.role is not Role.TEACHER else 28)
        role = Role.TEACHER if self.same else request.role
        is_clip = request.preset in CLIP_PRESETS
        pixels = moving_gradient(role, request.seed) if is_clip else gradient(role, request.seed)
        still = pixels[0] if is_clip else pixels
        started = time.perf_counter()
        try:
            for step in range(1, steps + 1):
                time.sleep(self.seconds_per_step)
                if request.role in self.fail and step == steps // 2:
                    raise self.fail[request.role]
                preview = (still // 2 + 64)[::4, ::4] if request.role is Role.TEACHER and step % 7 == 0 else None
                yield Progress(step=step, steps=steps, elapsed_seconds=time.perf_counter() - started, preview=preview)
        except GeneratorExit:
            self.closed += 1
            raise
        guided = request.role is not Role.STUDENT
        yield Sample(
            media=pixels,
            kind="video" if is_clip else "image",
            steps=steps,
            nfe=steps * (2 if guided else 1),
            guidance_scale=3.0 if guided else 1.0,
            scheduler="FlowMatchEulerDiscreteScheduler",
            seconds=steps * (2 if guided else 1) * 0.03,
            denoiser_seconds=steps * (2 if guided else 1) * 0.028,
            noise_sha256=hashlib.sha256(str(request.seed).encode()).hexdigest(),
            trained=request.role is not Role.STUDENT or steps == 4,
        )


@dataclass
class FakeLearn:
    """A live distillation of gradients: events of the real kinds, wishes heeded, a file at the end."""

    folder: Path
    preset: Any
    seconds_per_step: float = 0.2  # so long that a busy machine can still press Pause
    iterations: int = 20
    closed: int = 0
    made: dict[str, Any] = field(default_factory=dict)

    def __call__(self, wish: Callable[[], str]) -> Iterator[dict[str, Any]]:
        ended = False
        try:
            yield {"kind": "waiting", "ahead": 1}
            time.sleep(0.2)
            yield {"kind": "loading"}
            yield from self._run(wish)
            ended = True
        finally:
            self.closed += not ended

    def _run(self, wish: Callable[[], str]) -> Iterator[dict[str, Any]]:
        prompts = ["a cat left of a dog", "two pears", "a panda above a crab"]
        yield {"kind": "begin", "iterations": self.iterations, "steps": 4, "teacher_nfe": 56, "prompts": prompts} | {
            "questions": 96
        }
        yield self._pictures(Role.TEACHER, "teacher", 0)
        for step in range(1, self.iterations + 1):
            while wish() == "pause":
                time.sleep(0.05)
                yield {"kind": "tick"}
            if wish() == "stop":
                return
            time.sleep(self.seconds_per_step)
            yield {"kind": "step", "step": step, "forwards": 208 * step, "seconds": 0.8 * step}
            if step % 5 == 0:
                yield self._pictures(Role.STUDENT, "student", step)
                value = 0.5 + step / 60
                score = {"value": value, "low": value - 0.1, "high": value + 0.09, "n": 96}
                yield {"kind": "score", "step": step, "forwards": 208 * step, "seconds": 0.8 * step} | score
            if step == 6:
                yield self._pictures(Role.TEACHER_FEW, "equal", 0)
                yield {"kind": "line", "role": "equal", "nfe": 4, "value": 0.62, "low": 0.5, "high": 0.7, "n": 96}
        yield {"kind": "line", "role": "teacher", "nfe": 56, "value": 0.81, "low": 0.7, "high": 0.9, "n": 96}
        file = self.folder / "pytorch_lora_weights.safetensors"
        file.write_bytes(b"a LoRA")
        name = f"mini-sd3-live-{len(self.made) + 1}"
        self.made[name] = replace(self.preset, name=name, title=f"made live, {name[-1]}")
        yield {"kind": "end", "file": str(file), "preset": name}

    @staticmethod
    def _pictures(role: Role, name: str, step: int) -> dict[str, Any]:
        files = [encode_png(gradient(role, seed + step, 96)) for seed in range(3)]
        encoded = [base64.b64encode(file).decode() for file in files]
        return {"kind": "pictures", "role": name, "step": step, "pictures": encoded}


@dataclass(frozen=True, kw_only=True)
class FakePair:
    id: str
    prompt: str
    kind: str = "image"
    width: int = 128
    height: int = 128
    frames: int = 1
    fps: int = 1
    length_ms: int = 0
    category: str = ""
    control_arm: str = "teacher"


CLIP_FRAMES, CLIP_FPS = 9, 8


def clip(role: Role) -> np.ndarray:
    """A clip whose frames show their own number in bars, tinted by role; uint8 [F, 32, 128, 3]."""
    return barcodes(CLIP_FRAMES, tint=0 if role is Role.STUDENT else 2)


@dataclass
class FakeBank:
    """Three pairs of gradients, or of clips, packed as the real bank does it; ``made`` of them exist."""

    made: int = 3
    kind: str = "image"

    def pairs(self) -> list[FakePair]:
        looks: dict[str, Any] = {}
        if self.kind == "video":
            length_ms = 1000 * CLIP_FRAMES // CLIP_FPS
            looks = {"kind": "video", "height": 32, "frames": CLIP_FRAMES, "fps": CLIP_FPS, "length_ms": length_ms}
        return [FakePair(id=f"pair-{index}", prompt=f"prompt {index}", **looks) for index in range(self.made)]

    def packed(self, pair_id: str, left_arm: str, right_arm: str) -> bytes:
        if self.kind == "video":
            sides = {"student": clip(Role.STUDENT), "teacher": clip(Role.TEACHER), "spoiled": spoil(clip(Role.TEACHER))}
            return pack_videos(sides, [(left_arm, right_arm)], fps=CLIP_FPS)[left_arm, right_arm]
        seed = int(pair_id.removeprefix("pair-"))
        pictures = [
            spoil(gradient(Role.TEACHER, seed)) if arm == "spoiled" else gradient(Role(arm), seed)
            for arm in (left_arm, right_arm)
        ]
        return pack_pair(*pictures)
