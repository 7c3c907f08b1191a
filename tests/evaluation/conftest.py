"""A preset without weights, and an engine that draws: true pictures for the teacher, faulty ones for the others."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from tdm_core.evaluation.arms import choose_arms
from tdm_core.evaluation.harness import generate
from tdm_core.evaluation.suites import load_suite
from tdm_core.generation.plan import make_plan
from tdm_core.generation.presets import Preset, StudentSettings, TeacherSettings
from tdm_core.generation.sample import Role, Sample
from tdm_core.scenes.grammar import parse
from tdm_core.scenes.moving import render as moving
from tdm_core.scenes.moving.grammar import parse as parse_clip
from tdm_core.scenes.moving.mini_vbench import freeze
from tdm_core.scenes.render import draw, layout

EMPTY_SAFETENSORS = (2).to_bytes(8, "little") + b"{}"


def make_preset(tmp_path):
    for folder in ("base", "lora"):
        (tmp_path / "models" / folder).mkdir(parents=True)
    (tmp_path / "models" / "base" / "weights.bin").write_bytes(b"teacher")
    (tmp_path / "models" / "base" / "model_index.json").write_text("{}")
    (tmp_path / "models" / "lora" / "pytorch_lora_weights.safetensors").write_bytes(EMPTY_SAFETENSORS)
    return Preset(
        name="tiny",
        origin=tmp_path / "models" / "tiny.toml",
        title="Tiny",
        family="sd3",
        base="base",
        licence="none",
        width=96,
        height=96,
        teacher=TeacherSettings(steps=28, guidance_scale=3.0, grid="uniform"),
        student=StudentSettings(lora="lora", steps=4, sigmas={"2": (1.0, 0.6), "4": (1.0, 0.8, 0.6, 0.3)}),
    )


@pytest.fixture
def preset(tmp_path):
    return make_preset(tmp_path)


@dataclass
class DrawingEngine:
    """Keeps the engine's contract: the noise and the picture depend on prompt, seed and plan alone."""

    presets: dict[str, Preset]
    fault_rates: dict[Role, float] = field(default_factory=lambda: {Role.TEACHER_FEW: 0.5, Role.STUDENT: 0.2})
    break_after: int | None = None
    batches: list[int] = field(default_factory=list)
    roles: list[Role] = field(default_factory=list)

    def sample_batch(self, requests):
        if self.break_after is not None and len(self.batches) >= self.break_after:
            raise KeyboardInterrupt
        plan = make_plan(self.presets[requests[0].preset], requests[0])
        self.batches.append(len(requests))
        self.roles += [request.role for request in requests]
        return [self._sample(request, plan) for request in requests]

    def _media(self, request):
        rng = np.random.default_rng(request.seed)
        scene = layout(parse(request.prompt), rng)
        if rng.random() < self.fault_rates.get(request.role, 0.0):
            scene = replace(scene, objects=scene.objects[1:])
        return draw(scene), "image"

    def _sample(self, request, plan):
        media, kind = self._media(request)
        return Sample(
            media=media,
            kind=kind,
            steps=plan.steps,
            nfe=plan.nfe,
            guidance_scale=plan.guidance_scale,
            scheduler="Fake",
            seconds=0.01 * plan.nfe + 0.02,
            denoiser_seconds=0.01 * plan.nfe,
            text_seconds=0.005,
            device_memory_mb=100.0 + plan.nfe,
            noise_sha256=f"{request.seed:064x}",
            sigmas=plan.sigmas or (),
        )


class MovingEngine(DrawingEngine):
    """Draws clips; a fault freezes them."""

    def _media(self, request):
        rng = np.random.default_rng(request.seed)
        frames = moving.render(parse_clip(request.prompt), rng)
        return freeze(frames) if rng.random() < self.fault_rates.get(request.role, 0.0) else frames, "video"


@pytest.fixture
def engine(preset):
    return DrawingEngine({preset.name: preset})


@pytest.fixture
def moving_engine(preset):
    return MovingEngine({preset.name: preset})


@pytest.fixture
def make_run(preset, engine, tmp_path):
    """Generate into a folder: ``make_run("name", limit=.., seeds=.., roles=..)``."""

    def make(name="run", *, limit=6, seeds=2, roles=None, sampler=engine, batch_size=5, suite="scenes"):
        generate(
            tmp_path / name,
            preset=preset if suite == "scenes" else replace(preset, media="video", frames=moving.NUM_FRAMES),
            suite=load_suite(suite),
            arms=choose_arms(preset, roles),
            sampler=sampler,
            limit=limit,
            seeds=seeds,
            batch_size=batch_size,
        )
        return tmp_path / name

    return make
