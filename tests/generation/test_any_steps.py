"""A student for several numbers of steps: the page samples each on the very grid that it was trained on."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tdm_core.backbones.adapters import NetworkRole
from tdm_core.backbones.trainable import denoiser
from tdm_core.diffusion.trajectory import roll_out
from tdm_core.generation.engine import Engine
from tdm_core.generation.plan import make_plan, uniform_grid
from tdm_core.generation.presets import load_presets
from tdm_core.generation.sample import Role, SampleRequest, finish
from tdm_core.training.export import Provenance, export_student
from tests.training.recipes import recipe, tiny_trainer

TRAINED = (4, 1, 2, 8)
PROMPT, SEED = "a cat and a dog", 3


@pytest.fixture(scope="module")
def made(tiny_system, tmp_path_factory):
    """Trainer, preset and engine of a student for 1, 2, 4 and 8 steps, whose weights do something."""
    config = recipe(
        tmp_path_factory.mktemp("any"),
        base={"path": str(tiny_system / "base")},
        trajectory={"steps": 4, "shift": 1.5, "also_steps": [1, 2, 8], "apart": 0.008},
    )
    trainer = tiny_trainer(config)
    generator = torch.Generator().manual_seed(0)
    for weight in trainer.ema.values():
        weight.copy_(0.1 * torch.randn(weight.shape, generator=generator))
    provenance = Provenance(iterations=0, minutes=0.0, machine="m", commit="c", num_prompts=1)
    export_student(config, trainer.backbone, trainer.ema, provenance)
    own = load_presets([tiny_system / "presets"])["tiny"]
    preset = replace(own, student=replace(own.student, lora=str(config.export.folder)))
    return trainer, preset, Engine({"tiny": preset}, device="cpu", threads=1)


@pytest.mark.parametrize("steps", range(1, 9))
def test_the_plan_has_the_trained_grid_and_marks_the_others(made, steps):
    trainer, preset, _ = made
    plan = make_plan(preset, SampleRequest(preset="tiny", role=Role.STUDENT, prompt=PROMPT, seed=SEED, steps=steps))
    assert plan.trained == (steps in TRAINED)
    expected = trainer.grids[steps][:-1].tolist() if steps in TRAINED else uniform_grid(steps)
    assert plan.sigmas == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("steps", TRAINED)
def test_the_engine_draws_what_the_trainer_rolls_out(made, steps):
    trainer, _, engine = made
    request = SampleRequest(preset="tiny", role=Role.STUDENT, prompt=PROMPT, seed=SEED, steps=steps)
    backbone, told = trainer.backbone, trainer.backbone.encode([PROMPT])
    noise = torch.randn(backbone.latent_shape, generator=torch.Generator().manual_seed(SEED))[None]
    with torch.no_grad(), backbone.roles.weights(NetworkRole.STUDENT, trainer.ema):
        denoise = denoiser(backbone, NetworkRole.STUDENT, told)
        *_, last = roll_out(denoise, noise, trainer.grids[steps], backbone.process)
    sample = finish(engine.sample(request))
    expected = backbone.decode(last.x_s)[0].astype(int)
    assert np.abs(sample.media.astype(int) - expected).max() <= 1
    assert sample.nfe == steps
    assert sample.trained
