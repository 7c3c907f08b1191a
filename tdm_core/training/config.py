"""What a distillation run is made of: one frozen dataclass per table of the recipe's TOML file.

Everything that changes the student is in the hash; where files go, how often and on how many threads (``[run]``,
``[export]``) is not.  Recipes lie in ``train/configs``; ``train/README.md`` says how they differ from the paper.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from math import inf, isfinite
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from tdm_core.diffusion.trajectory import time_nodes
from tdm_core.toml_config import from_toml
from tdm_core.training.precision import Precision

SEEDS = 2**63
"""What every generator takes, torch's and NumPy's."""
MAY_BE_INFINITE = ("optimiser.student_clip", "optimiser.fake_clip")


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
    size: tuple[int, ...] = ()
    """Width and height in pixels, and the frames of a video, of the samples trained on; empty: the base's own."""
    student: Path | None = None
    """An earlier run's export, where the student starts (weights and average); its critic starts from the base."""
    student_kept: float = 0.0
    """Share of that earlier student in what is exported: its weights and those trained from it are interpolated
    (WiSE-FT, arXiv:2109.01903), which keeps part of what each does better."""

    def __post_init__(self) -> None:
        _require(
            self.student_kept == 0 or (self.student is not None and 0 < self.student_kept < 1),
            f"base.student_kept must lie in 0-1, and needs base.student, got {self.student_kept}",
        )
        _require(
            len(self.size) in (0, 2, 3) and all(number > 0 for number in self.size),
            f"base.size must be [width, height] or [width, height, frames], got {list(self.size)}",
        )


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
    nodes: tuple[float, ...] = ()
    """The grid of ``steps`` itself, noisiest first, without the final 0, in time 0-1, in the shifted one's place: the
    timesteps 999, 856, 665, 399 of 1000 are ``[1.0, 0.857, 0.666, 0.4]``."""
    also_steps: tuple[int, ...] = ()
    """Further numbers of steps K: each iteration draws one of all (TDM-unify)."""
    turns: int = 1
    """Of ``steps`` in that draw, where each further K has one."""
    apart: float = 0.0
    """Lower each further K's grid by this share of time more than the one before, so that the time itself tells K and
    stock loaders can carry it; 0.008 is eight of 1000 timesteps."""
    told: Literal["nobody", "fake", "both"] = "nobody"
    """Who is told K by an embedding of its own.  A student that is told is no LoRA that stock loaders take, and is not
    exported; the fake is never shipped."""
    exits: Literal["stratified", "drawn"] = "stratified"
    """Which step each row trains: all steps in every batch, or one step drawn per iteration."""
    eta: float = 1.0
    """Share of its own noise that the student keeps at a landing while it is trained; the rest is drawn anew."""

    def __post_init__(self) -> None:
        _require(1 <= self.steps <= 16, f"trajectory.steps must lie in 1-16, got {self.steps}")
        _require(
            all(1 <= steps <= 16 and steps != self.steps for steps in self.also_steps)
            and len(set(self.also_steps)) == len(self.also_steps),
            f"trajectory.also_steps must be numbers in 1-16, each once and not {self.steps}, got {self.also_steps}",
        )
        _require(self.turns >= 1, f"trajectory.turns must be at least 1, got {self.turns}")
        _require(self.shift > 0, f"trajectory.shift must be positive, got {self.shift}")
        _require(0 <= self.apart * len(self.also_steps) <= 0.1, f"trajectory.apart must be small, got {self.apart}")
        _require(0 <= self.eta <= 1, f"trajectory.eta must lie in 0-1, got {self.eta}")
        if self.nodes:
            _require(
                len(self.nodes) == self.steps,
                f"trajectory.nodes: {self.steps} steps need {self.steps} numbers, got {len(self.nodes)}",
            )
            falling = all(earlier > later for earlier, later in pairwise((*self.nodes, 0.0)))
            _require(
                falling and self.nodes[0] <= 1,
                f"trajectory.nodes must fall from at most 1 to above 0, got {self.nodes}",
            )

    def drawn_from(self) -> list[int]:
        """The numbers of steps that an iteration draws one of, each as often as it has turns."""
        return [self.steps] * self.turns + list(self.also_steps)

    def grids(self) -> dict[int, Tensor]:
        """The K + 1 times of each trained number of steps K, from noise down to 0, float64; the main K first.

        Beside given ``nodes`` the further grids begin where these do, on whole ones of 1000 timesteps: a network of
        epsilon may know nothing of noisier times, and its schedulers take no others.
        """
        numbers = (self.steps, *self.also_steps)
        grids = {steps: time_nodes(steps, self.shift) * (1 - self.apart * rank) for rank, steps in enumerate(numbers)}
        if not self.nodes:
            return grids
        whole = {steps: (nodes * self.nodes[0] * 1000).round() / 1000 for steps, nodes in grids.items()}
        return whole | {self.steps: torch.tensor([*self.nodes, 0.0], dtype=torch.float64)}


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
class TimesConfig:
    """The law of one loss's query times, cut to the interval (``diffusion/times.py``)."""

    law: Literal["uniform", "logit_normal", "unshifted"] = "uniform"
    mean: float = 0.0
    std: float = 1.0
    """Both of the logit-normal law."""

    def __post_init__(self) -> None:
        _require(self.std > 0, f"times: std must be positive, got {self.std}")


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """What the student is trained towards (``diffusion/objectives``); most keys are TDM's own."""

    method: Literal["tdm", "dmd2", "lcm"] = "tdm"
    """TDM, or a rival: DMD2 without GAN (``dmd2.py``), or latent consistency (``lcm.py``), which needs clean samples.
    Both rivals are sampled with fresh noise at each step."""
    guidance_scale: float = 3.0
    """Of the teacher; it is baked into the student, which samples without guidance."""
    guidance: Literal["joint", "decoupled"] = "joint"
    """One loss towards the guided teacher, or one for its KL part and one for its guidance part."""
    guidance_part_weight: float = 1.0
    """Of the guidance part's loss, where it is decoupled."""
    interval: Literal["separate", "reverse"] = "separate"
    """Renoise a landing inside its own segment, or anywhere up to pure noise."""
    margin: float = 0.03
    latest: float = 0.98
    """Query times keep these distances from the landing and from pure noise."""
    student_times: TimesConfig = field(default_factory=TimesConfig)
    fake_times: TimesConfig = field(default_factory=TimesConfig)
    fake_target: Literal["ambient", "x0", "x0_importance"] = "ambient"
    """The unbiased score of the landings; the published student's x0; the same with its tempered importance weight."""
    ambient_largest_weight: float = 11.0
    """Cap of ``1 / alpha^2``, for the ambient target."""
    snr_weight: Literal["min_snr", "native", "none"] = "min_snr"
    """Of the squared error, for the x0 targets."""
    snr_cap: float = 5.0
    """Of the min_snr weight."""
    teacher_weight: float = 0.0
    """Of the regulariser that ties the fake score to the teacher (0.02 in TDM-R1); costs a forward unless 0."""
    anchored_steps: int = 0
    """How many of the first steps are also drawn to where the guided teacher's own way from the same noise has come:
    they decide what a prompt leaves open, and distribution matching alone lets its shares wander.  Costs forwards.
    Of ``trajectory.also_steps`` a number K has at most K - 1 of them."""
    anchor_weight: float = 1.0
    """Of that loss."""
    student_point: Literal["x0", "landing"] = "x0"
    """What the student's loss moves: its x0, as public codes do, or its landing, as the paper writes it."""
    student_loss: Literal["pseudo_huber", "pseudo_huber_elementwise", "squared"] = "pseudo_huber"
    huber_c: float = 0.00054
    """Times sqrt(number of latent values), or as it is (0.001 in the published script) for the elementwise form."""
    normaliser_floor: float = 0.05
    """Divide by the mean distance to the teacher, at least this; 0 leaves the normaliser out."""

    def __post_init__(self) -> None:
        _require(self.guidance_scale >= 1, f"objective.guidance_scale must be at least 1, got {self.guidance_scale}")
        _require(0 < self.margin < self.latest <= 1, "objective needs 0 < margin < latest <= 1")
        _require(self.snr_cap > 0 and self.ambient_largest_weight > 0, "objective: weights must be positive")
        _require(
            min(self.guidance_part_weight, self.teacher_weight, self.anchor_weight, self.normaliser_floor) >= 0
            and self.huber_c > 0,
            "objective: weights and floors must not be negative, and huber_c must be positive",
        )


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """AdamW for each role, two time scales."""

    iterations: int
    batch_size: int = 32
    """Rows of one update, over all processes and micro-batches."""
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
    """Share of the iterations, at the end, over which the rates fall linearly to zero."""
    decays: Literal["both", "student"] = "both"
    """Whose rate falls; a critic at full rate keeps up with a student that settles."""
    ema_decay: float = 0.98

    def __post_init__(self) -> None:
        _require(self.iterations >= 0, f"optimiser.iterations must not be negative, got {self.iterations}")
        _require(self.batch_size >= 1, f"optimiser.batch_size must be at least 1, got {self.batch_size}")
        _require(min(self.fake_steps, self.warmup_fake_steps) >= 1, "optimiser: at least 1 fake step per iteration")
        _require(
            self.warmup_iterations >= 0,
            f"optimiser.warmup_iterations must not be negative, got {self.warmup_iterations}",
        )
        _require(
            min(self.student_lr, self.fake_lr, self.weight_decay) >= 0,
            f"optimiser: rates and weight_decay must not be negative, got student_lr {self.student_lr}, "
            f"fake_lr {self.fake_lr}, weight_decay {self.weight_decay}",
        )
        _require(
            all(0 <= beta < 1 for beta in self.betas), f"optimiser.betas must lie in [0, 1), got {list(self.betas)}"
        )
        _require(
            min(self.student_clip, self.fake_clip) > 0,
            f"optimiser: clips must be positive (inf: none), got {self.student_clip} and {self.fake_clip}",
        )
        _require(0 <= self.decay_share <= 1, f"optimiser.decay_share must lie in 0-1, got {self.decay_share}")
        _require(0 <= self.ema_decay < 1, f"optimiser.ema_decay must lie in [0, 1), got {self.ema_decay}")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Where and how a run works; nothing here changes the student, but for rounding."""

    folder: Path
    threads: int = 2
    precision: Precision = "fp32"
    """Of matrix products on a CPU (``training/precision.py``)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    micro_batch: int = 0
    """Rows that go through the network at once, per process; 0: all.  Smaller saves memory and costs one forward more
    a row, since the student's graph is not kept from the critic's update to its own."""
    gradient_checkpointing: bool = False
    """Save memory by computing activations again in the backward."""
    text_cache: Path = Path("runs/text")
    """Prompts are encoded once into this folder; then the text encoders leave memory."""
    tracker: Literal["tensorboard", "wandb", "trackio", "none"] = "tensorboard"
    """Who else is told of the log's rows and of the previews."""
    checkpoint_minutes: float = 5.0
    keep_checkpoints: int = 2
    preview_every: int = 100
    """Iterations between previews; 0 makes none."""
    preview_prompts: tuple[str, ...] = ()
    preview_teacher_steps: int = 28
    preview_seed: int = 1

    def __post_init__(self) -> None:
        _require(self.threads >= 1, f"run.threads must be at least 1, got {self.threads}")
        _require(self.micro_batch >= 0, f"run.micro_batch must not be negative, got {self.micro_batch}")
        _require(self.keep_checkpoints >= 1, f"run.keep_checkpoints must be at least 1, got {self.keep_checkpoints}")
        _require(self.preview_every >= 0, f"run.preview_every must not be negative, got {self.preview_every}")
        _require(
            self.preview_teacher_steps >= 1,
            f"run.preview_teacher_steps must be at least 1, got {self.preview_teacher_steps}",
        )
        _require(
            self.checkpoint_minutes >= 0, f"run.checkpoint_minutes must not be negative, got {self.checkpoint_minutes}"
        )
        _require(0 <= self.preview_seed < SEEDS, f"run.preview_seed must lie in 0-2^63, got {self.preview_seed}")


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
        for name, value in _flat(self.tables()):
            # Ranges alone would let a nan through: no comparison with it is true, and `min` may miss it.
            _require(
                not isinstance(value, float) or isfinite(value) or (value == inf and name in MAY_BE_INFINITE),
                f"{name} must be a finite number, got {value}",
            )
        _require(0 <= self.seed < SEEDS, f"seed must lie in 0-2^63, got {self.seed}")
        steps, anchored = self.trajectory.steps, self.objective.anchored_steps
        _require(
            0 <= anchored <= steps,
            f"objective.anchored_steps must lie in 0-{steps}, the steps there are, got {anchored}",
        )
        _require(
            not self.objective.anchored_steps or self.trajectory.eta == 1,
            "objective.anchored_steps needs trajectory.eta = 1: the teacher's way knows no fresh noise",
        )
        for steps, nodes in self.trajectory.grids().items():
            shortest = float(-nodes.clamp(max=self.objective.latest).diff().max())
            _require(
                self.objective.margin < shortest,
                f"objective.margin {self.objective.margin} leaves nothing of the shortest of {steps} segments "
                f"({shortest:.3f})",
            )

    @property
    def eta(self) -> float:
        """Share of its own noise that the student keeps at a landing: the rivals keep none."""
        return self.trajectory.eta if self.objective.method == "tdm" else 0.0

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

    def made_of(self) -> dict[str, Any]:
        """All that changes the student, one entry a key: ``{"optimiser.student_lr": 5e-4, ...}``."""
        made_of = dict(_flat({key: value for key, value in self.tables().items() if key not in NOT_THE_STUDENTS}))
        # Keys that came later: where they change nothing, checkpoints and rows of before stay what they are.
        return {key: value for key, value in made_of.items() if (key, value) not in LATER}

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that differ whenever the student would."""
        return hashlib.sha256(json.dumps(self.made_of(), sort_keys=True).encode()).hexdigest()[:12]


NOT_THE_STUDENTS = ("title", "run", "export")
"""What may change without changing the student."""
LATER = (("base.student", None), ("base.student_kept", 0.0), ("trajectory.turns", 1))


def _flat(tables: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tables.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
