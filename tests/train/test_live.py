"""The child process of the Distil tab as the page starts it, on the tiny pipeline."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tdm_core.generation.plan import lora_metadata

ROOT = Path(__file__).parents[2]
RECIPE = """
title = "tiny live"
[base]
path = "{base}"
[prompts]
scenes = 100
[lora]
rank = 4
alpha = 4
targets = ["attn.to_q", "ff.net.2"]
[optimiser]
iterations = {iterations}
batch_size = 4
[run]
folder = "unused"
threads = 1
preview_prompts = ["a cat", "two pears"]
preview_teacher_steps = 2
[export]
folder = "unused"
"""


@pytest.fixture
def start(tmp_path, tiny_system):
    started = []

    def start(iterations):
        recipe = tmp_path / "recipe.toml"
        recipe.write_text(RECIPE.format(base=tiny_system / "base", iterations=iterations))
        command = [sys.executable, "-m", "train.live", str(recipe), "--out", str(tmp_path / "student")]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, cwd=ROOT, **pipes))
        return started[0]

    yield start
    for child in started:
        with child:  # closes its pipes and waits for it
            child.kill()


def test_it_ends_with_a_student_whose_file_knows_its_grid(start, tmp_path):
    child = start(iterations=2)
    events = [json.loads(line) for line in child.stdout]
    assert child.wait() == 0
    assert events[0]["kind"] == "begin"
    assert [event["step"] for event in events if event["kind"] == "step"] == [1, 2]
    assert {event["role"] for event in events if event["kind"] == "line"} == {"teacher", "equal"}
    assert events[-1]["kind"] == "end"
    file = Path(events[-1]["file"])
    assert file.parent == tmp_path / "student"
    assert json.loads(lora_metadata(file)["tdm"])["trained_steps"] == [4]


def test_it_ends_when_whoever_asked_is_gone(start, tmp_path):
    child = start(iterations=100_000)
    next(child.stdout)
    child.stdin.close()
    assert child.wait(timeout=240) == 0
    assert not (tmp_path / "student").exists()


def test_a_mistake_is_told_as_an_event(start, tmp_path):
    child = start(iterations=-1)
    (event,) = [json.loads(line) for line in child.stdout]
    assert event["kind"] == "failed"
    assert "optimiser.iterations" in event["message"]
    assert child.wait() == 1
