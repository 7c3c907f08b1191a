"""What an iteration costs beside the published script's calls, counted on the same network."""

import pytest
import torch

from benchmarks.official_loop import OfficialLoop, forward_equivalents
from tests.tiny import tiny_pipeline
from tests.training.recipes import PROMPTS, recipe, tiny_trainer


def test_ours_costs_ten_and_a_half_forwards_a_row_and_the_published_calls_fifteen(tmp_path):
    trainer = tiny_trainer(recipe(tmp_path))
    with forward_equivalents(trainer.backbone.network) as ours:
        trainer.train_step()
    told, rows = trainer.backbone.encode(PROMPTS), len(PROMPTS)
    official = OfficialLoop(tiny_pipeline().transformer, steps=4, guidance_scale=3.0, uncond=trainer.uncond)
    with forward_equivalents(official.student, official.fake, official.teacher) as theirs:
        official.step(torch.randn(rows, *trainer.backbone.latent_shape), told)
    assert ours[0] / trainer.config.optimiser.batch_size == 10.5
    assert theirs[0] / rows == 15


def test_the_published_calls_train_two_whole_networks_and_leave_the_teacher(tmp_path):
    trainer = tiny_trainer(recipe(tmp_path))
    told = trainer.backbone.encode(PROMPTS)
    official = OfficialLoop(tiny_pipeline().transformer, steps=4, guidance_scale=3.0, uncond=trainer.uncond)
    before = [p.clone() for p in official.teacher.parameters()]
    for _ in range(2):
        official.step(torch.randn(len(PROMPTS), *trainer.backbone.latent_shape), told)
    for network in (official.student, official.fake):
        moved = [not torch.equal(one, other) for one, other in zip(before, network.parameters(), strict=True)]
        assert sum(moved) / len(moved) == pytest.approx(1.0, abs=0.05)
    assert all(torch.equal(one, other) for one, other in zip(before, official.teacher.parameters(), strict=True))
