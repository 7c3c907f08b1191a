"""Whole programs: killed in the middle of a save, and two of them as one run."""

import json
import socket
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from tests.training.recipes import PROMPTS
from train.distill import main

RECIPE = """
title = "tiny"
[base]
path = "{base}"
[prompts]
file = "{folder}/prompts.txt"
[lora]
rank = 2
alpha = 4
targets = ["attn.to_q", "ff.net.2"]
[optimiser]
iterations = 4
batch_size = 5
warmup_iterations = 0
[run]
folder = "{folder}/run"
device = "cpu"
threads = 1
text_cache = "{folder}/text"
tracker = "none"
checkpoint_minutes = 0
preview_every = 0
[export]
folder = "{folder}/student"
dtype = "float32"
"""

KILLED_IN_ITS_THIRD_SAVE = """
import os, signal, sys
import torch
real, saves = torch.save, []

def save(state, file):
    real(state, file)
    saves.append(1)
    if len(saves) == 3:
        file.truncate(file.tell() // 2)
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

torch.save = save
from train.distill import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def recipes(tmp_path, tiny_system):
    """Writes recipes that differ in their folders alone."""

    def write(name):
        folder = tmp_path / name
        folder.mkdir()
        path = folder / "recipe.toml"
        path.write_text(RECIPE.format(base=tiny_system / "base", folder=folder))
        (folder / "prompts.txt").write_text("\n".join(PROMPTS))
        return path

    return write


def student(recipe):
    return recipe.parent / "student" / "pytorch_lora_weights.safetensors"


def test_a_run_killed_in_the_middle_of_a_save_resumes_to_the_same_student(recipes):
    whole, killed = recipes("whole"), recipes("killed")
    assert main([str(whole)]) == 0
    done = subprocess.run([sys.executable, "-c", KILLED_IN_ITS_THIRD_SAVE, killed], capture_output=True, check=False)
    assert done.returncode == -9
    left = sorted(path.name for path in (killed.parent / "run" / "checkpoints").iterdir())
    assert left == [".draft-step-000003", "step-000001", "step-000002"]
    assert main([str(killed), "--resume"]) == 0
    resumed, uninterrupted = load_file(student(killed)), load_file(student(whole))
    assert resumed.keys() == uninterrupted.keys()
    assert all(torch.equal(resumed[name], tensor) for name, tensor in uninterrupted.items())
    steps = [json.loads(row)["step"] for row in (killed.parent / "run" / "log.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4]


def test_two_processes_make_the_student_of_one(recipes, capsys):
    """Five rows: three for one process, two for the other.  Sums in another order leave rounding alone."""
    one, two = recipes("one"), recipes("two")
    assert main([str(one)]) == 0
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # `--cpu` would want mpirun; `--multi_gpu` only starts processes, and the recipe's device makes them meet on gloo.
    launch = ["--multi_gpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"]
    command = [sys.executable, "-m", "accelerate.commands.launch", *launch, f"--main_process_port={port}"]
    done = subprocess.run([*command, "-m", "train.distill", two], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("wrote ") == 1  # the main process alone speaks and writes

    rows = [
        [json.loads(row) for row in (recipe.parent / "run" / "log.jsonl").read_text().splitlines()]
        for recipe in (one, two)
    ]
    for alone, together in zip(*rows, strict=True):
        for figure in ("student_loss", "fake_loss", "student_gradient", "fake_gradient"):
            assert together[figure] == pytest.approx(alone[figure], rel=1e-3), figure
    weights = [load_file(student(recipe)) for recipe in (one, two)]
    away = sum((weights[0][name] - weights[1][name]).square().sum() for name in weights[0])
    trained = [name for name in weights[0] if "lora_B" in name]  # these start at zero
    assert (away / sum(weights[0][name].square().sum() for name in trained)).sqrt() < 0.01

    assert main([str(two), "--resume"]) == 1
    assert "made with processes 2, now 1" in capsys.readouterr().err
