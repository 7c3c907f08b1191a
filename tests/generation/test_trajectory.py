"""What the network takes the finished picture to be at each step, and the student's strength, on the tiny system."""

from __future__ import annotations

import numpy as np
import pytest

from tdm_core.errors import RequestError
from tdm_core.generation.engine import Engine
from tdm_core.generation.presets import load_presets
from tdm_core.generation.sample import Grid, Progress, Role, SampleRequest, finish
from tests.tiny import SIGMAS, change_lora, save_tiny_system


def request(role=Role.STUDENT, preset="tiny", **changes):
    return SampleRequest(preset=preset, role=role, prompt="a cat", seed=3, **changes)


def steps_of(events):
    *steps, sample = events
    return [step for step in steps if isinstance(step, Progress) and step.step], sample


def test_the_student_shows_all_its_steps_and_ends_at_the_picture(tiny_engine):
    steps, sample = steps_of(tiny_engine.trajectory(request()))
    assert [step.time for step in steps] == pytest.approx(SIGMAS["4"], abs=1e-6)
    assert all(step.preview.shape == sample.media.shape for step in steps)
    assert np.abs(steps[-1].preview.astype(int) - sample.media).max() <= 1  # the last step goes to noise level 0
    assert np.array_equal(sample.media, finish(tiny_engine.sample(request())).media)


def test_the_teacher_shows_the_steps_nearest_to_the_student_s(tiny_engine):
    steps, sample = steps_of(tiny_engine.trajectory(request(Role.TEACHER), SIGMAS["4"]))
    shown = [step.time for step in steps if step.preview is not None]
    assert shown == pytest.approx([1.0, 0.8, 0.6, 0.3], abs=1e-6)
    assert np.array_equal(sample.media, finish(tiny_engine.sample(request(Role.TEACHER))).media)


@pytest.fixture(scope="module")
def strong_engine(tmp_path_factory):
    """The tiny system with a LoRA whose strength is plainly to be seen."""
    presets = save_tiny_system(folder := tmp_path_factory.mktemp("strong"))
    change_lora(folder / "lora" / "pytorch_lora_weights.safetensors", louder)
    return Engine(load_presets([presets]), device="cpu", threads=1)


def louder(tensors, metadata):
    return {name: tensor * (40 if "lora_B" in name else 1) for name, tensor in tensors.items()}, metadata


def test_a_strength_is_the_same_merged_and_beside_the_weights_and_zero_is_the_base(strong_engine):
    pictures = {}
    for preset in ("tiny", "unmerged"):
        for strength in (None, 0.5, 0.0, 1.0):
            made = finish(strong_engine.sample(request(preset=preset, strength=strength)))
            pictures[preset, strength] = made.media.astype(int)
    for strength in (None, 0.5, 0.0):
        assert np.abs(pictures["tiny", strength] - pictures["unmerged", strength]).max() <= 2, strength
    for other in (0.0, 1.0):
        assert np.abs(pictures["tiny", 0.5] - pictures["tiny", other]).max() >= 4
    for preset in ("tiny", "unmerged"):
        assert np.array_equal(pictures[preset, None], pictures[preset, 1.0])
    base = request(Role.TEACHER_FEW, guidance_scale=1.0, grid=Grid.STUDENT, steps=4)
    assert np.abs(pictures["tiny", 0.0] - finish(strong_engine.sample(base)).media).max() <= 1


@pytest.mark.parametrize(("role", "strength"), [(Role.TEACHER, 0.5), (Role.STUDENT, 2.5), (Role.STUDENT, float("nan"))])
def test_a_strength_that_makes_no_sense_is_refused(tiny_engine, role, strength):
    with pytest.raises(RequestError, match="strength"):
        finish(tiny_engine.sample(request(role, strength=strength)))
