"""What a recipe needs, from shapes alone: held against published sizes and against a real backward."""

import json
import socket

import pytest
import torch

from benchmarks.trainer_memory import SD3, SD3_TARGETS, role_bytes, three_copies_bytes
from tdm_core.backbones.shapes import SHAPES, example_inputs, network_shape, saved_for_backward
from tdm_core.errors import LoadError
from tdm_core.training.estimate import evaluations_per_row
from tests.tiny import tiny_pipeline
from tests.training.recipes import recipe
from train.distill import main

MILLIONS = {  # of the published networks
    "cogvideox-2b": 1694,
    "pixart-alpha-1024": 611,
    "pixart-alpha-512": 611,
    "stable-diffusion-1.5": 860,
    "stable-diffusion-3-medium": 2028,
    "stable-diffusion-3.5-medium": 2243,
    "stable-diffusion-xl": 2567,
}


def test_shapes_that_ship_have_the_published_sizes():
    found = {}
    for path in SHAPES.glob("*.json"):
        network = network_shape(json.loads(path.read_text())["bases"][0])
        found[path.stem] = round(sum(parameter.numel() for parameter in network.parameters()) / 1e6)
    assert found == MILLIONS


@pytest.mark.parametrize("name", ["stable-diffusion-1.5", "pixart-alpha-1024", "pixart-alpha-512"])
def test_example_inputs_fit_the_network(name):
    network = network_shape(json.loads((SHAPES / f"{name}.json").read_text())["bases"][0])
    inputs = example_inputs(network)
    with torch.no_grad():
        (output,) = network(**inputs)
    state = inputs.get("hidden_states", inputs.get("sample"))
    assert output.shape[2:] == state.shape[2:]


def test_another_size_gives_other_inputs():
    network = network_shape("stable-diffusion-v1-5/stable-diffusion-v1-5")
    assert example_inputs(network, rows=2, size=(768, 512))["sample"].shape == (2, 4, 64, 96)


def test_an_unknown_base_is_told_with_a_cure():
    with pytest.raises(LoadError, match=r"nobody/nothing: has no transformer or unet.*\nName a folder"):
        network_shape("nobody/nothing")


def test_what_waits_for_the_backward_is_what_really_waits():
    """The same hooks around a real call; fused attention on a CPU keeps a vector more than on the meta device."""
    network, sizes = tiny_pipeline().transformer, {}

    def note(tensor):
        sizes[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    inputs = {
        key: value if isinstance(value, bool) else torch.ones(value.shape)
        for key, value in example_inputs(network, rows=2).items()
    }
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        network(**inputs)
    real = sum(tensor.untyped_storage().nbytes() for key, tensor in sizes.items() if key not in weights)
    planned = saved_for_backward(network.to("meta"), example_inputs(network, rows=2))
    assert planned.total == pytest.approx(real, rel=0.05)
    assert planned.total / 4 < planned.largest_block < planned.total  # two blocks, and what is around them


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ({}, 10.5),  # roll-out 1.5, student 3, fake 3, teacher 2, fake as critic 1
        ({"run": {"micro_batch": 4}}, 11.5),
        ({"optimiser": {"fake_steps": 2}}, 13.5),
        ({"objective": {"guidance_scale": 1.0}}, 9.5),
        ({"objective": {"teacher_weight": 0.1}}, 11.5),
        ({"trajectory": {"steps": 1}}, 9.0),
        ({"objective": {"anchored_steps": 2}}, 15.0),  # 3 and 6 guided steps for a quarter of the rows each
        ({"trajectory": {"also_steps": [1, 2, 8]}}, 10.375),  # rolled out 0, 0.5, 1.5 or 3.5 steps
        ({"trajectory": {"also_steps": [1, 2, 8], "turns": 3}}, 9 + 8.5 / 6),  # (3 * 1.5 + 0 + 0.5 + 3.5) / 6
        # 2 steps of 4 and of 8, 1 of 2, none of 1: (9/4 + 9/8 + 3/2) / 4 guided steps a row
        ({"trajectory": {"also_steps": [1, 2, 8]}, "objective": {"anchored_steps": 2}}, 12.8125),
    ],
    ids=str,
)
def test_evaluations_per_row(tmp_path, tables, expected):
    assert evaluations_per_row(recipe(tmp_path, **tables)) == pytest.approx(expected, rel=1e-12)


def test_all_roles_of_sd3_take_less_than_half_of_three_copies_weights():
    network = network_shape(SD3, torch.bfloat16)
    assert role_bytes(network, rank=64, targets=SD3_TARGETS) <= 0.45 * three_copies_bytes(network)


def test_a_dry_run_of_a_published_base_needs_no_network(tmp_path, capsys, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a dry run must not connect")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    path = tmp_path / "recipe.toml"
    path.write_text(
        f"""
title = "sd3"
[base]
path = "{SD3}"
dtype = "bfloat16"
use_t5 = true
max_sequence_length = 256
[prompts]
file = "none.txt"
[lora]
rank = 64
alpha = 64
targets = {json.dumps(SD3_TARGETS)}
[optimiser]
iterations = 1000
batch_size = 32
[run]
folder = "{tmp_path}/run"
micro_batch = 1
gradient_checkpointing = true
[export]
folder = "{tmp_path}/student"
"""
    )
    assert main([str(path), "--dry-run"]) == 0
    out = capsys.readouterr().out
    needs = json.loads(out[out.rindex("\n{\n") :])
    assert needs["lora_parameters"] == pytest.approx(37.6e6, rel=0.01)
    assert needs["weights_gibibytes"] == pytest.approx(5.04, abs=0.02)
    assert needs["activations_gibibytes"] < 2 and needs["hours_at_matmul_speed"] > 0
    assert needs["petaflops_per_iteration"] == pytest.approx(11.5 * 32 * 8.97e-3, rel=0.02)  # 8.9 TFLOP a forward
    assert not (tmp_path / "run").exists()
