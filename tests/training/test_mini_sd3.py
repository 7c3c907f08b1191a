"""The proof on the shipped mini: in under three minutes on one thread, a fresh LoRA passes the teacher at equal NFE.

Both are asked the same 256 prompts of the scenes suite from the same noise, and judged by pixels alone.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from tdm_core.backbones.adapters import NetworkRole
from tdm_core.backbones.trainable import denoiser
from tdm_core.diffusion.trajectory import time_nodes
from tdm_core.scenes.scorer import score_batch
from tdm_core.scenes.suite import limited, load_suite
from tdm_core.training.config import DistillConfig
from tdm_core.training.distillation import sample
from tdm_core.training.prompts import draw_from_list, encode_all
from tdm_core.training.trainer import Trainer
from tests.needs import need
from train.distill import load_backbone, load_prompts

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "train" / "configs" / "mini-sd3-tdm-ci.toml"
QUESTIONS = limited(load_suite(), 256)
BATCH = 64


def make_trainer() -> Trainer:
    base = ROOT / "assets" / "models" / "mini-sd3"
    need(base.is_dir(), "assets/models/mini-sd3 is not there")
    config = DistillConfig.read(RECIPE, [f"base.path={base}"])
    backbone = load_backbone(config)
    return Trainer(config, backbone, draw_from_list(backbone, load_prompts(config)))


def share_right(backbone, role, nodes, guidance_scale=1.0) -> float:
    """Share of the questions that a role answers rightly, each from its own fixed noise."""
    told = encode_all(backbone, [question.prompt for question in QUESTIONS])
    noise = torch.randn(len(QUESTIONS), *backbone.latent_shape, generator=torch.Generator().manual_seed(7))
    uncond, pictures = backbone.encode([""]), []
    for first in range(0, len(QUESTIONS), BATCH):
        rows = slice(first, first + BATCH)
        denoise = denoiser(backbone, role, told.rows(rows), uncond=uncond, guidance_scale=guidance_scale)
        pictures.append(backbone.decode(sample(backbone, denoise, noise[rows], nodes)))
    prompts, tags = zip(*((question.prompt, question.tag) for question in QUESTIONS), strict=True)
    return float(np.mean([verdict.passed for verdict in score_batch(np.concatenate(pictures), prompts, tags)]))


@pytest.fixture(scope="module")
def teacher_shares() -> dict[str, float]:
    """The teacher at 4 NFE: without guidance, and with it in half the steps, each on its better grid."""
    trainer = make_trainer()
    guidance_scale, shift = trainer.config.objective.guidance_scale, trainer.config.trajectory.shift
    return {
        name: max(
            share_right(trainer.backbone, NetworkRole.TEACHER, time_nodes(steps, grid), guidance)
            for grid in (1.0, shift)
        )
        for name, steps, guidance in (("4 steps", 4, 1.0), ("2 steps, guided", 2, guidance_scale))
    }


def check_beats_teacher_at_equal_nfe(trainer: Trainer, teacher_shares: dict[str, float]) -> None:
    with trainer.backbone.roles.weights(NetworkRole.STUDENT, trainer.ema):
        student = share_right(trainer.backbone, NetworkRole.STUDENT, trainer.nodes)
    print(f"4 NFE: student {student:.3f}, teacher {teacher_shares}")
    assert student >= max(teacher_shares.values()) + 0.03


def test_the_student_beats_the_teacher_at_equal_nfe(teacher_shares):
    trainer = make_trainer()
    for _ in range(trainer.config.optimiser.iterations):
        trainer.train_step()
    check_beats_teacher_at_equal_nfe(trainer, teacher_shares)


def test_an_untrained_student_does_not(teacher_shares):
    with pytest.raises(AssertionError, match=r"0\.03"):
        check_beats_teacher_at_equal_nfe(make_trainer(), teacher_shares)
