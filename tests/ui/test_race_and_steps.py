"""The race, the steps and the systems, without a browser."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tdm_core.errors import LoadError
from tdm_core.generation.presets import load_presets
from tdm_core.generation.sample import Role
from tdm_core.ui import race, steps
from tdm_core.ui.board import Comparison, Side
from tdm_core.ui.inputs import PageInputs, System
from tdm_core.ui.systems import systems_value
from tests.ui.fakes import FakeSampler, fake_trajectory

PRESET = load_presets()["mini-sd3"]
ASKED = Comparison(preset=PRESET, prompt="a cat", seed=7, student_steps=4, teacher_steps=28)


@pytest.fixture(autouse=True)
def kept(monkeypatch):
    """What was stored, by name, in the place of files."""
    stored = {}

    def keep(media, name, *, fps=8):
        stored[name] = media
        return {"url": name}

    for module in (race, steps):
        monkeypatch.setattr(module, "keep", keep)
    return stored


def page(sampler, **more):
    return PageInputs(
        preset=PRESET,
        sample=sampler,
        suggest=lambda: ["a cat"],
        unknown_words=lambda prompt: [],
        trained_steps=frozenset({4}),
        results=lambda: None,
        machine="a desk",
        **more,
    )


def test_a_race_is_one_teacher_and_as_many_students_as_fit_into_its_time():
    sampler = FakeSampler(seconds_per_step=0)
    *_, value = race.run_race(page(sampler), ASKED)
    assert [request.role for request in sampler.requests] == [Role.TEACHER] + [Role.STUDENT] * 15
    assert [request.seed for request in sampler.requests[1:4]] == [7, 8, 9]  # one by one, a seed each
    assert len(value["tiles"]) == 14  # 28 guided steps against 4: the fifteenth was too late
    assert [tile["at"] for tile in value["tiles"]] == pytest.approx([0.12 * n for n in range(1, 15)])
    assert value["result"] == "14 pictures in the time of one"
    assert dict(value["ratios"]) == pytest.approx(dict.fromkeys(race.texts.RACE_RATIOS.values(), 14.0))
    assert "a desk" in value["recorded"]


def test_the_three_ratios_are_each_their_own_measurement():
    *_, student = FakeSampler(seconds_per_step=0)(ASKED.request(Side.STUDENT))
    students = [replace(student, nfe=4, denoiser_seconds=0.2, seconds=seconds) for seconds in (0.4, 0.6)]
    teacher = {"nfe": 100, "denoiser_seconds": 5.0, "seconds": 6.0}
    assert [ratio for _, ratio in race.ratios(teacher, students)] == pytest.approx([25.0, 25.0, 12.0])


FAILURES = [(LoadError("no weights"), "no weights"), (KeyError("bug"), race.texts.SURPRISE)]


@pytest.mark.parametrize("role", [Role.TEACHER, Role.STUDENT])
@pytest.mark.parametrize(("failure", "message"), FAILURES)
def test_a_side_that_fails_ends_the_race_with_its_message(role, failure, message):
    sampler = FakeSampler(seconds_per_step=0, fail={role: failure})
    *_, value = race.run_race(page(sampler), ASKED)
    assert (value["phase"], value["message"]) == ("failed", message)


def test_leaving_a_race_frees_the_device():
    sampler = FakeSampler(seconds_per_step=0.01)
    running = race.run_race(page(sampler), ASKED)
    next(running)
    next(running)
    running.close()
    assert sampler.closed == 1


def test_the_steps_of_both_sides_stand_beside_each_other_at_the_student_s_times(kept):
    *_, value = steps.look_inside(fake_trajectory, ASKED)
    assert value["ticks"] == ["noise 1.00", "noise 0.75", "noise 0.50", "noise 0.25", "finished"]
    assert [item["state"] for item in value["items"]] == ["ready", "ready"]
    assert [len(item["src"]) for item in value["items"]] == [5, 5]


@pytest.mark.parametrize(("failure", "message"), FAILURES)
def test_a_trajectory_that_fails_says_so_in_both_panes(failure, message):
    def broken(request, moments):
        raise failure
        yield

    *_, value = steps.look_inside(broken, ASKED)
    assert [(item["state"], item["message"]) for item in value["items"]] == [("failed", message)] * 2


def test_the_systems_that_run_come_first_and_the_others_say_why_not():
    absent = replace(load_presets()["tdm-cogvideox-2b"], name="far")
    inputs = page(
        FakeSampler(),
        others=[System(preset=absent, suggest=lambda: [])],
        why_not=lambda name: ["made for a GPU"] if name == "far" else [],
    )
    mini, far = systems_value(inputs)["cards"]
    assert (mini["name"], mini["why_not"]) == ("mini-sd3", [])
    assert far["why_not"] == ["made for a GPU"]
    facts = dict(far["facts"])
    assert facts["Size"] == "720 × 480, 49 frames, 8 a second"
    assert facts["Steps"] == "50 → 4"
    assert facts["Download"] == "13.8 GB"
