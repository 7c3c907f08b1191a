"""SD3 as the trainer sees it agrees with the stock pipeline, before and after a LoRA goes through a file."""

import json

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from safetensors import safe_open
from torch.testing import assert_close

from tdm_core.backbones.adapters import NetworkRole
from tdm_core.backbones.sd3_training import SD3Training
from tdm_core.backbones.trainable import Conditioning, denoiser
from tdm_core.diffusion.trajectory import roll_out, time_nodes
from tests.tiny import TARGETS, tiny_pipeline

STUDENT = NetworkRole.STUDENT
PROMPTS = ["a cat", "a dog and a cat"]


@pytest.fixture
def backbone():
    """Rank 4 and alpha 8: a lost alpha would show as a factor of 2."""
    backbone = SD3Training(tiny_pipeline(), rank=4, alpha=8, targets=TARGETS, seed=0, max_sequence_length=0)
    generator = torch.Generator().manual_seed(1)
    for parameter in backbone.roles.parameters(STUDENT).values():
        parameter.data.normal_(0, 0.1, generator=generator)
    return backbone


@pytest.fixture
def noise(backbone):
    return torch.randn(2, *backbone.latent_shape, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def rolled_out(backbone, role, noise, nodes, **guidance):
    denoise = denoiser(backbone, role, backbone.encode(PROMPTS), **guidance)
    *_, last = roll_out(denoise, noise, nodes, backbone.process)
    return last.x_s


def stock(pipeline, noise, sigmas, **options):
    return pipeline(
        PROMPTS, sigmas=sigmas, latents=noise, max_sequence_length=0, output_type="latent", return_dict=False, **options
    )[0]


def test_guided_teacher_roll_out_is_the_stock_pipeline(backbone, noise):
    nodes = time_nodes(4, 1.5)
    found = rolled_out(backbone, NetworkRole.TEACHER, noise, nodes, uncond=backbone.encode([""]), guidance_scale=3.0)
    expected = stock(tiny_pipeline(), noise, nodes[:-1].tolist(), guidance_scale=3.0)
    assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_exported_student_in_the_stock_pipeline_is_the_student_in_training(backbone, noise, tmp_path):
    nodes = time_nodes(4, 1.5)
    state = backbone.roles.parameters(STUDENT)
    path = backbone.save_lora(tmp_path, {name: tensor.detach() for name, tensor in state.items()}, {"tdm": "{}"})
    pipeline = tiny_pipeline()
    pipeline.load_lora_weights(tmp_path, adapter_name="any_name")
    assert sum("any_name" in getattr(module, "scaling", {}) for module in pipeline.transformer.modules()) == (
        backbone.roles.num_layers
    )
    expected = stock(pipeline, noise, nodes[:-1].tolist(), guidance_scale=1.0)
    assert_close(rolled_out(backbone, STUDENT, noise, nodes), expected, atol=1e-4, rtol=1e-4)
    teacher = rolled_out(backbone, NetworkRole.TEACHER, noise, nodes)
    assert (expected - teacher).abs().mean() > 1e-2  # the LoRA does something, so that equality means something
    assert path.name == "pytorch_lora_weights.safetensors"


def test_alpha_and_our_metadata_travel_in_the_file(backbone, tmp_path):
    state = {name: tensor.detach() for name, tensor in backbone.roles.parameters(STUDENT).items()}
    path = backbone.save_lora(tmp_path, state, {"tdm": json.dumps({"sigmas": {"4": [1.0]}})})
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    adapter = json.loads(metadata["lora_adapter_metadata"])
    assert (adapter["transformer.r"], adapter["transformer.lora_alpha"]) == (4, 8)
    assert json.loads(metadata["tdm"]) == {"sigmas": {"4": [1.0]}}


def test_shifted_schedulers_would_move_the_nodes_again():
    """Why the model card sets shift=1 before it passes sigmas."""
    nodes = time_nodes(4)[:-1].tolist()
    moved, kept = FlowMatchEulerDiscreteScheduler(shift=3.0), FlowMatchEulerDiscreteScheduler(shift=1.0)
    moved.set_timesteps(sigmas=nodes)
    kept.set_timesteps(sigmas=nodes)
    assert_close(kept.sigmas[:-1].tolist(), nodes)
    assert_close(moved.sigmas[:-1].tolist(), [1.0, 0.9, 0.75, 0.5])


def test_conditioning_rows_join_and_repeat():
    one = Conditioning({"a": torch.tensor([[1.0], [2.0]]), "b": torch.zeros(2, 3, 4)})
    joined = Conditioning.join([one.rows(slice(1, 2)).repeat(3), one])
    assert joined.tensors["a"].flatten().tolist() == [2, 2, 2, 1, 2]
    assert len(joined) == 5 and joined.tensors["b"].shape == (5, 3, 4)


def test_pixels_are_those_of_the_stock_pipeline(backbone, noise):
    pipeline = tiny_pipeline()
    expected = stock(pipeline, noise, [1.0], guidance_scale=1.0)
    pictures = pipeline(
        PROMPTS, sigmas=[1.0], latents=noise, max_sequence_length=0, guidance_scale=1.0, output_type="np"
    ).images
    found = backbone.decode(expected)
    assert found.shape == (2, backbone.size_px, backbone.size_px, 3)
    assert abs(found / 255 - pictures).max() <= 0.5 / 255 + 1e-6
