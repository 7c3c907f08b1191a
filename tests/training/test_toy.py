"""A world of two dimensions, where a student can be compared with the teacher's own distribution in seconds.

The teacher is a small network trained by flow matching on four points on a circle.  Cut to four steps it leaves many
samples between the points; the student must not.
"""

import math

import pytest
import torch
from torch import nn

from tdm_core.backbones.adapters import LoraRoles, NetworkRole
from tdm_core.backbones.trainable import Conditioning, denoiser
from tdm_core.diffusion.noise import flow_matching
from tdm_core.diffusion.prediction import PredictionType
from tdm_core.diffusion.trajectory import time_nodes
from tdm_core.training.distillation import sample
from tdm_core.training.trainer import Trainer
from tests.training.recipes import recipe

ANGLES = torch.arange(4) * (2 * math.pi / 4)
POINTS = torch.stack([ANGLES.cos(), ANGLES.sin()], dim=1) * 1.5
SPREAD = 0.1


class Velocity(nn.Module):
    """Velocity [B, 2] at states [B, 2] and times [B]."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(12, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 2))

    def forward(self, x, t):
        waves = t[:, None] * torch.tensor([1.0, 2, 4, 8, 16]) * (math.pi / 2)
        return self.layers(torch.cat([x, waves.sin(), waves.cos()], dim=1))


class Plane:
    """Keeps the promise of ``TrainableBackbone`` in two dimensions, without text."""

    prediction_type, process, latent_shape, size_px = PredictionType.FLOW, flow_matching(), (2,), 0
    device = torch.device("cpu")

    def __init__(self, network):
        self.network = network
        self.roles = LoraRoles(network, rank=32, alpha=32, targets=["layers.0", "layers.2", "layers.4"], seed=0)

    def encode(self, prompts):
        return Conditioning({"nothing": torch.zeros(len(prompts), 1)})

    def network_output(self, role, latents, t, conditioning):
        with self.roles.active(role):
            return self.network(latents, t.float())


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(0)
    network = Velocity()
    optimiser = torch.optim.AdamW(network.parameters(), lr=4e-3, fused=True)
    rounds = 1500
    for step in range(rounds):
        optimiser.param_groups[0]["lr"] = 4e-3 * (1 - step / rounds)
        x_0 = POINTS[torch.randint(4, (512,))] + SPREAD * torch.randn(512, 2)
        noise, t = torch.randn(512, 2), torch.rand(512)
        x_t = (1 - t[:, None]) * x_0 + t[:, None] * noise
        loss = (network(x_t, t) - (noise - x_0)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.state_dict()


def plane(teacher):
    network = Velocity()
    network.load_state_dict(teacher)
    return Plane(network)


def distance_to_points(backbone, role, nodes):
    """Mean distance of 4,000 samples to the nearest point; 0.125 for the data (Rayleigh with the spread)."""
    noise = torch.randn(4000, 2, generator=torch.Generator().manual_seed(5))
    denoise = denoiser(backbone, role, backbone.encode([""] * 4000))
    samples = sample(backbone, denoise, noise, nodes)
    return torch.cdist(samples, POINTS).min(dim=1).values.mean().item(), samples


def distilled(teacher, tmp_path, iterations=250, **objective):
    config = recipe(
        tmp_path,
        objective={"guidance_scale": 1.0, **objective},
        trajectory={"steps": 4, "shift": 1.0},
        optimiser={
            "iterations": iterations,
            "batch_size": 256,
            "student_lr": 1e-3,
            "fake_lr": 4e-3,
            "warmup_iterations": 20,
        },
    )
    backbone = plane(teacher)
    trainer = Trainer(config, backbone, lambda size, generator, rows: backbone.encode([""] * size))
    for _ in range(iterations):
        trainer.train_step()
    backbone.roles.load(NetworkRole.STUDENT, trainer.ema)
    return backbone


def test_student_lands_on_the_points_where_the_cut_teacher_does_not(teacher, tmp_path):
    nodes = time_nodes(4)
    full, _ = distance_to_points(plane(teacher), NetworkRole.TEACHER, time_nodes(100))
    cut, _ = distance_to_points(plane(teacher), NetworkRole.TEACHER, nodes)
    student, samples = distance_to_points(distilled(teacher, tmp_path), NetworkRole.STUDENT, nodes)
    print(f"distance to the points: teacher {full:.3f}, cut {cut:.3f}, student {student:.3f}")
    assert full < 0.17 and cut > 1.8 * full
    assert student < full + 0.35 * (cut - full)
    shares = torch.bincount(torch.cdist(samples, POINTS).argmin(dim=1), minlength=4) / len(samples)
    assert shares.min() > 0.15  # no point is forgotten
