"""The whole program on the smallest base of each kind of network: two iterations, and a student that loaders take."""

import json

import pytest

from tdm_core.backbones.lora_file import read_lora
from tdm_core.backbones.stock_training import training_class
from tests import tiny_systems
from train.distill import main

RECIPE = """
title = "tiny-{name}"
[base]
path = "{folder}/base"
family = "{family}"
use_t5 = true
max_sequence_length = {tokens}
{size}
[prompts]
file = "{folder}/prompts.txt"
[trajectory]
nodes = [1.0, 0.857, 0.666, 0.4]
[lora]
rank = 2
alpha = 4
targets = {targets}
[optimiser]
iterations = 2
batch_size = 2
warmup_iterations = 0
[run]
folder = "{folder}/run"
threads = 1
text_cache = "{folder}/text"
tracker = "none"
micro_batch = 1
gradient_checkpointing = true
preview_prompts = ["a cat"]
preview_teacher_steps = 2
[export]
folder = "{folder}/student"
"""
FAMILIES = {"sdxl": (0, ""), "pixart": (16, "size = [64, 64]"), "cogvideox": (226, "")}


@pytest.mark.parametrize("name", FAMILIES)
def test_two_iterations_make_a_student_of_each(name, tmp_path, capsys):
    tokens, size = FAMILIES[name]
    training = training_class(name)
    base = tiny_systems.BASES[name]()
    base.save_pretrained(tmp_path / "base")
    (tmp_path / "prompts.txt").write_text("a cat\ntwo dogs\n")
    recipe = tmp_path / "recipe.toml"
    targets = json.dumps(training.TARGETS)
    recipe.write_text(RECIPE.format(name=name, family=name, folder=tmp_path, tokens=tokens, targets=targets, size=size))
    status = main([str(recipe)])
    out = capsys.readouterr()
    assert status == 0, out.err
    file = tmp_path / "student" / out.out.partition("wrote ")[2].split()[0].rpartition("/")[2]
    denoiser = training.family.DENOISER
    layers = read_lora(file, getattr(base, denoiser), prefix=denoiser)
    assert {layer.scale for layer in layers.values()} == {2.0}
    assert any(layer.b.abs().sum() > 0 for layer in layers.values())  # it has learned something
    assert (tmp_path / "student" / "samples.png").is_file()
