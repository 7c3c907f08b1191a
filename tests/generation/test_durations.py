"""Seconds of a rented GPU: what a bench has fitted, with a margin, within limits."""

import json

import pytest

from tdm_core.errors import ConfigError
from tdm_core.generation.durations import LEAST_SECONDS, MOST_SECONDS, USUAL_SECONDS, Fit, read_fits, seconds_of
from tdm_core.generation.presets import load_presets
from tdm_core.generation.sample import Role, SampleRequest


def request(role, steps=None, preset="mini-sd3"):
    return SampleRequest(preset=preset, role=role, prompt="a cat", seed=0, steps=steps)


def test_a_fit_gives_seconds_by_the_evaluations(tmp_path):
    row = {"preset": "mini-sd3", "student_fit": {"fixed_seconds": 2.0, "seconds_per_evaluation": 0.5}}
    (tmp_path / "mini-sd3.json").write_text(json.dumps(row))
    seconds = seconds_of(load_presets(), read_fits(tmp_path))
    assert seconds(request(Role.STUDENT)) == 6  # 1.5 (2 + 0.5 * 4)
    assert seconds(request(Role.TEACHER)) == 45  # 1.5 (2 + 0.5 * 56)
    assert seconds(request(Role.TEACHER_FEW, steps=4)) == 9
    assert seconds(request(Role.STUDENT, preset="unheard-of")) == LEAST_SECONDS


def test_without_a_fit_the_usual_is_asked_and_with_a_wild_one_at_most_the_most():
    assert seconds_of(load_presets(), {})(request(Role.TEACHER)) == USUAL_SECONDS
    assert Fit(fixed_seconds=1e6, seconds_per_evaluation=0).seconds(1) == MOST_SECONDS
    assert Fit(fixed_seconds=0, seconds_per_evaluation=1e-6).seconds(1) == LEAST_SECONDS


def test_a_file_of_another_kind_is_named(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"x\.json: not what evaluate bench"):
        read_fits(tmp_path)
