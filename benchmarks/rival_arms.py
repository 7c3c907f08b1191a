"""Which students and teachers are held against each other: every arm is the shared recipe and what it changes.

All students of one system and number of steps spend the same number of network forwards (rows through the network,
backward passes not counted), whatever their method: `iterations_for` turns the budget into iterations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Literal

from torch import Tensor

from benchmarks.rival_rows import FRESH_NOISE
from tdm_core.diffusion.trajectory import time_nodes
from tdm_core.training.config import DistillConfig, TrajectoryConfig
from tdm_core.training.landing import anchor_steps, rolled_out_steps

RECIPE = Path(__file__).parent / "rivals.toml"
BUDGET = 53_000
"""Forwards of 250 iterations of TDM with K = 4 and batches of 32, or 505 with batches of 16; clips get half of it."""
STEPS = (1, 2, 4, 8)
SEEDS = (0, 1, 2)

Solver = Literal["euler", "dpm"]
SOLVERS: dict[Solver, str] = {"euler": "Euler", "dpm": "DPM-Solver++"}
Grid = Literal["uniform", "student"]
GRIDS: dict[Grid, str] = {"uniform": "uniform", "student": "student’s grid"}


@dataclass(frozen=True, kw_only=True)
class Student:
    """One trained arm."""

    name: str
    title: str
    steps: int = 4
    changes: tuple[str, ...] = ()
    """``section.key=value`` on the shared recipe."""
    budget: float = 1.0
    """Share of the budget that it may spend."""
    paper: str = ""
    """What the paper found for the same change (HPS, SD 1.5, 4 steps; arXiv:2503.06674, tables 5 and 7)."""

    def config(self, system: str, seed: int, budget: int) -> DistillConfig:
        """Its resolved recipe."""
        shared = SYSTEMS[system]
        changes = [*shared.changes, f"trajectory.steps={self.steps}", *self.changes, f"seed={seed}"]
        config = DistillConfig.read(RECIPE, changes)
        iterations = iterations_for(config, round(shared.budget * self.budget * budget))
        return DistillConfig.read(RECIPE, [*changes, f"optimiser.iterations={iterations}"])


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """The teacher by one sampler."""

    name: str
    title: str
    steps: int
    guided: bool
    grid: Grid = "uniform"
    solver: Solver = "euler"

    @property
    def nfe(self) -> int:
        return self.steps * (2 if self.guided else 1)

    def nodes(self, student: TrajectoryConfig) -> Tensor:
        """Its K + 1 times, float64; on the student's grid at fewer steps those of its nodes that divide it evenly.

        Raises:
            ValueError: if nodes given one by one are no whole multiple of the steps.
        """
        if self.grid == "uniform" or not student.nodes:
            return time_nodes(self.steps, student.shift if self.grid == "student" else 1.0)
        further, rest = divmod(student.steps, self.steps)
        if rest:
            raise ValueError(f"{student.steps} nodes cannot be thinned to {self.steps} steps")
        return student.grids()[student.steps][::further]


@dataclass(frozen=True, kw_only=True)
class System:
    """A mini: what it changes of the shared recipe, and its teacher as the product runs it."""

    full: Teacher
    changes: tuple[str, ...] = ()
    budget: float = 1.0
    """Share of the budget that its students may spend."""
    moving: bool = False
    """It makes clips, and answers the moving suite."""


LAYERS = '"to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_out"'
"""Adapted in both families whose blocks are a plain transformer's."""


def _full(steps: int, solver: Solver = "euler") -> Teacher:
    return Teacher(name="full", title="teacher", steps=steps, guided=True, solver=solver)


SYSTEMS = {
    "mini-sd3": System(full=_full(28)),
    "mini-pixart": System(
        full=_full(28, "dpm"),
        changes=(
            "base.path=assets/models/mini-pixart",
            "base.family=pixart",
            "base.max_sequence_length=14",
            "trajectory.nodes=[0.85, 0.56, 0.35, 0.15]",
            f'lora.targets=[{LAYERS}, "adaln_single.linear"]',
        ),
    ),
    "mini-cogvideox": System(
        full=_full(25),
        changes=(
            "base.path=assets/models/mini-cogvideox",
            "base.family=cogvideox",
            "base.max_sequence_length=18",
            "trajectory.nodes=[1.0, 0.857, 0.666, 0.4]",
            f'lora.targets=[{LAYERS}, "norm1.linear", "norm2.linear"]',
            "objective.guidance_scale=3.0",
            "optimiser.batch_size=16",
        ),
        budget=0.5,
        moving=True,
    ),
}
"""The students' grids and layers are those of `train/configs`."""

SMALL_BATCH = "optimiser.batch_size=16"
FIVE_UPDATES = ("optimiser.fake_steps=5", "optimiser.warmup_fake_steps=5")
"""Of the critic, for one of the student."""
_TDM = Student(name="tdm", title="TDM")
_DMD2 = Student(
    name="dmd2",
    title="DMD2 without GAN",
    changes=("objective.method=dmd2", *FIVE_UPDATES),
)
_LCM = Student(name="lcm", title="LCM-LoRA", changes=("objective.method=lcm",))
LEARNING_RATES = (2e-4, 5e-4, 1e-3, 2e-3, 4e-3)
BEST_RATES = {"tdm": 1e-3, "dmd2": 2e-3, "lcm": 2e-3}


def _varied(arm: Student, told: str, *changes: str) -> Student:
    return replace(arm, name=f"{arm.name}-{told}", title=f"{arm.title}, {told}", changes=(*arm.changes, *changes))


def _rate(value: float) -> str:
    return f"optimiser.student_lr={value:g}"


SMALL_BATCHES = tuple(_varied(arm, "batch16", _rate(BEST_RATES[arm.name]), SMALL_BATCH) for arm in (_TDM, _DMD2, _LCM))
RATES = (
    *(_varied(arm, f"{rate:g}", _rate(rate)) for arm, rate in product((_TDM, _DMD2, _LCM), LEARNING_RATES)),
    *SMALL_BATCHES,
)
"""Each method's learning rate at batches of 32, then batches of 16 at the best: no rival loses by what suits TDM."""

TDM = replace(_TDM, changes=(SMALL_BATCH,))
DMD2 = replace(_DMD2, changes=(*_DMD2.changes, _rate(BEST_RATES["dmd2"]), SMALL_BATCH))
LCM = replace(_LCM, changes=(*_LCM.changes, _rate(BEST_RATES["lcm"])))
METHODS = (TDM, DMD2, LCM)
"""Each as it is best of its row of `RATES`."""
STOCHASTIC = Student(
    name="tdm-stochastic",
    title="TDM, sampled and trained as DMD2 is",
    changes=(FRESH_NOISE, *FIVE_UPDATES, _rate(BEST_RATES["dmd2"]), SMALL_BATCH),
)
"""Fresh noise at each landing, five updates of the critic, and DMD2's rate: what then differs is the objective."""

ABLATIONS = (
    replace(_TDM, name="tdm-batch32", title="TDM, batches of 32"),
    Student(
        name="clean-landing",
        title="clean landing: x0 diffused from 0, anywhere",
        changes=("objective.method=dmd2",),
        paper="24.63, was 31.35",
    ),
    Student(
        name="critic-x0",
        title="critic learns the student's x0",
        changes=("objective.fake_target=x0",),
        paper="29.27, was 31.35 with the weight",
    ),
    Student(
        name="critic-x0-weighted",
        title="the same with the importance weight",
        changes=("objective.fake_target=x0_importance",),
    ),
    Student(
        name="huber-elementwise",
        title="Huber of each element",
        changes=("objective.student_loss=pseudo_huber_elementwise", "objective.huber_c=0.001"),
    ),
    Student(
        name="squared",
        title="squared loss",
        changes=("objective.student_loss=squared",),
        paper="30.85, was 31.31",
    ),
)
"""Of TDM at K = 4 and batches of 32."""
MORE_ABLATIONS = (
    Student(name="anchored", title="first two steps anchored", changes=("objective.anchored_steps=2",)),
    Student(name="critic-full-rate", title="critic keeps its rate", changes=("optimiser.decays=student",)),
    Student(name="no-normaliser", title="no normaliser", changes=("objective.normaliser_floor=0",)),
    Student(name="interval-reverse", title="queried up to pure noise", changes=("objective.interval=reverse",)),
    Student(name="guidance-decoupled", title="guidance decoupled", changes=("objective.guidance=decoupled",)),
)

MANY = (*TDM.changes, "trajectory.also_steps=[1, 2, 8]")
TELLING = (
    Student(name="any-k", title="one LoRA, K untold", changes=MANY, budget=2.0),
    Student(
        name="any-k-apart", title="one LoRA, K told by the grid", changes=(*MANY, "trajectory.apart=0.008"), budget=2.0
    ),
    Student(
        name="any-k-apart-fake",
        title="the same, and the critic told by an embedding",
        changes=(*MANY, "trajectory.apart=0.008", "trajectory.told=fake"),
        budget=2.0,
    ),
    Student(
        name="any-k-apart-long",
        title="K told by the grid, four times the budget",
        changes=(*MANY, "trajectory.apart=0.008"),
        budget=4.0,
    ),
    Student(
        name="any-k-told",
        title="student and critic told by an embedding",
        changes=(*MANY, "trajectory.told=both"),
        budget=2.0,
    ),
)
"""One LoRA for 1, 2, 4 and 8 steps; twice the budget that one of the four students has that are trained for one, and
once as much as these four have together."""


def alone(arms: Sequence[Student], steps: int) -> tuple[Student, ...]:
    """The same methods, trained for another number of steps."""
    return tuple(replace(arm, name=f"{arm.name}-k{steps}", steps=steps) for arm in arms)


def teachers(steps: int) -> tuple[Teacher, ...]:
    """The teacher at ``steps`` network evaluations, in every way to spend them, and guided at as many steps."""
    arms = []
    for solver, grid in product(SOLVERS, GRIDS):
        told, name = f"{SOLVERS[solver]}, {GRIDS[grid]}", f"{solver}-{grid}"
        make = partial(Teacher, grid=grid, solver=solver)
        arms.append(make(name=f"cut-{name}-n{steps}", title=f"teacher, {told}", steps=steps, guided=False))
        for number in (steps // 2, steps) if steps % 2 == 0 else (steps,):
            title = f"guided teacher, {told}"
            arms.append(make(name=f"guided-{name}-n{2 * number}", title=title, steps=number, guided=True))
    return tuple(arms)


def iterations_for(config: DistillConfig, budget: int) -> int:
    """Iterations that spend about so many forwards, the warm-up's further critic updates included."""
    optimiser, per_row = config.optimiser, forwards_per_row(config)
    further = optimiser.warmup_iterations * (optimiser.warmup_fake_steps - optimiser.fake_steps)
    further = 0 if config.objective.method == "lcm" else further
    return max(1, round((budget / optimiser.batch_size - further) / per_row))


def forwards_per_row(config: DistillConfig) -> float:
    """Network forwards of one iteration over its rows: roll-out and step, critic, teacher, critic as judge."""
    teacher = 2.0 if config.objective.guidance_scale > 1 else 1.0
    if config.objective.method == "lcm":
        return 2 + teacher  # and the student as its own target
    teacher += teacher * anchor_steps(config)
    return rolled_out_steps(config) + 1 + config.optimiser.fake_steps + teacher + 1
