"""What a distillation run is made of: one frozen dataclass per table of the recipe's TOML file.

Everything that changes the student is in the hash; where files go, how often and on how many threads (``[run]``,
``[export]``) is not.  Recipes lie in ``train/configs``; ``train/README.md`` says how they differ from the paper.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from tdm_core.diffusion.trajectory import time_nodes
from tdm_core.toml_config import from_toml


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True, kw_only=True)
class BaseConfig:
    """The teacher: a pipeline of a known family."""

    path: str
    """A diffusers folder or a Hub id."""
    family: Literal["sd3", "sd15", "sdxl", "pixart", "cogvideox"] = "sd3"
    revision: str | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the frozen base; LoRA weights, losses and schedules stay in float32 and float64."""
    use_t5: bool = False
    max_sequence_length: int = 0
    """Of the T5 part of SD3's text; 0 without a T5 means no zero tokens at all.  Sample with the same number."""


@dataclass(frozen=True, kw_only=True)
class PromptsConfig:
    """Where prompts come from: a file with one per line (``#`` starts a comment), or captions of the scene grammar."""

    file: Path | None = None
    scenes: int = 0
    """Draw this many captions from the scene grammar instead, none of which the scenes suite asks for."""

    def __post_init__(self) -> None:
        _require((self.file is None) != (self.scenes == 0), "prompts: give either a file or a number of scenes")
        _require(self.scenes >= 0, f"prompts.scenes must be positive, got {self.scenes}")


@dataclass(frozen=True, kw_only=True)
class TrajectoryConfig:
    """The student's steps."""

    steps: int = 4
    shift: float = 1.0
    """Time shift of the nodes towards noise; 1.0 is the paper's uniform grid."""
    exits: Literal["stratified", "drawn"] = "stratified"
    """Which step each row trains: all steps in every batch, or one step drawn per iteration."""

    def __post_init__(self) -> None:
        _require(1 <= self.steps <= 16, f"trajectory.steps must lie in 1-16, got {self.steps}")
        _require(self.shift > 0, f"trajectory.shift must be positive, got {self.shift}")


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Both adapters, student and fake."""

    rank: int = 32
    alpha: float = 32.0
    targets: tuple[str, ...]
    """Suffixes of module names."""

    def __post_init__(self) -> None:
        _require(self.rank >= 1, f"lora.rank must be at least 1, got {self.rank}")
        _require(self.alpha > 0, f"lora.alpha must be positive, got {self.alpha}")
        _require(len(self.targets) > 0, "lora.targets is empty")


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """The TDM objective (``diffusion/objectives/tdm.py``)."""

    guidance_scale: float = 3.0
    """Of the teacher; it is baked into the student, which samples without guidance."""
    interval: Literal["segment", "to_noise"] = "segment"
    """Renoise a landing inside its own segment, or anywhere up to pure noise."""
    margin: float = 0.03
    latest: float = 0.98
    fake_target: Literal["unbiased", "published"] = "unbiased"
    fake_largest_weight: float = 11.0
    """Cap of ``1 / alpha^2`` for the unbiased target."""
    snr_cap: float = 5.0
    """Cap of the SNR weight for the published target."""
    student_loss: Literal["pseudo_huber", "squared"] = "pseudo_huber"
    huber_c: float = 0.00054
    """Times sqrt(number of latent values)."""
    normaliser_floor: float = 0.05
    """Divide by the mean distance to the teacher, at least this; 0 leaves the normaliser out."""

    def __post_init__(self) -> None:
        _require(self.guidance_scale >= 1, f"objective.guidance_scale must be at least 1, got {self.guidance_scale}")
        _require(0 < self.margin < self.latest <= 1, "objective needs 0 < margin < latest <= 1")
        _require(self.snr_cap > 0 and self.fake_largest_weight > 0, "objective: weights must be positive")


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """AdamW for each role, two time scales."""

    iterations: int
    batch_size: int = 32
    student_lr: float = 5e-4
    fake_lr: float = 1e-3
    betas: tuple[float, float] = (0.0, 0.95)
    weight_decay: float = 0.0
    student_clip: float = 1.0
    fake_clip: float = 5.0
    fake_steps: int = 1
    """Fake updates per student update, each at fresh times and noise on the same landings."""
    warmup_iterations: int = 20
    warmup_fake_steps: int = 4
    """Fake updates per student update during the first iterations, until the critic knows the student."""
    decay_share: float = 0.3
    """Share of the iterations, at the end, over which both rates fall linearly to zero."""
    ema_decay: float = 0.98

    def __post_init__(self) -> None:
        _require(self.iterations >= 0, f"optimiser.iterations must not be negative, got {self.iterations}")
        _require(self.batch_size >= 1, f"optimiser.batch_size must be at least 1, got {self.batch_size}")
        _require(min(self.fake_steps, self.warmup_fake_steps) >= 1, "optimiser: at least 1 fake step per iteration")
        _require(0 <= self.decay_share <= 1, f"optimiser.decay_share must lie in 0-1, got {self.decay_share}")
        _require(0 <= self.ema_decay < 1, f"optimiser.ema_decay must lie in [0, 1), got {self.ema_decay}")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Where and how a run works; nothing here changes the student."""

    folder: Path
    threads: int = 2
    device: Literal["auto", "cpu", "cuda"] = "auto"
    checkpoint_minutes: float = 5.0
    keep_checkpoints: int = 2
    preview_every: int = 100
    """Iterations between previews; 0 makes none."""
    preview_prompts: tuple[str, ...] = ()
    preview_teacher_steps: int = 28
    preview_seed: int = 1

    def __post_init__(self) -> None:
        _require(self.threads >= 1, f"run.threads must be at least 1, got {self.threads}")
        _require(self.keep_checkpoints >= 1, f"run.keep_checkpoints must be at least 1, got {self.keep_checkpoints}")
        _require(self.preview_every >= 0, f"run.preview_every must not be negative, got {self.preview_every}")


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """The finished student."""

    folder: Path
    dtype: Literal["float32", "bfloat16"] = "bfloat16"


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """One recipe."""

    title: str
    seed: int = 0
    base: BaseConfig
    prompts: PromptsConfig
    trajectory: TrajectoryConfig = field(default_factory=TrajectoryConfig)
    lora: LoraConfig
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimiser: OptimiserConfig
    run: RunConfig
    export: ExportConfig

    def __post_init__(self) -> None:
        nodes = time_nodes(self.trajectory.steps, self.trajectory.shift).clamp(max=self.objective.latest)
        shortest = float(-nodes.diff().max())
        _require(
            self.objective.margin < shortest,
            f"objective.margin {self.objective.margin} leaves nothing of the shortest segment ({shortest:.3f})",
        )

    @classmethod
    def read(cls, path: Path, overrides: Sequence[str] = ()) -> DistillConfig:
        """The recipe in a TOML file, with ``section.key=value`` overrides.

        Raises:
            ConfigError: on a missing file, unknown key, wrong type or value out of range.
        """
        return from_toml(cls, path, overrides)

    def tables(self) -> dict[str, Any]:
        """The resolved recipe as plain values, as printed and saved."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self), default=str))
        return plain

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that differ whenever the student would."""
        tables = {key: value for key, value in self.tables().items() if key not in ("title", "run", "export")}
        return hashlib.sha256(json.dumps(tables, sort_keys=True).encode()).hexdigest()[:12]
