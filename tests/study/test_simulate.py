"""Synthetic studies in miniature; the figures at full size are in docs/log.md, and anybody can print them again."""

from dataclasses import asdict

import pytest

from tdm_core.study.simulate import Simulation, simulate


def test_the_clustered_interval_covers_and_the_naive_one_does_not():
    outcome = simulate(Simulation(raters=12, prompts=20, votes=12, rater_sd=1.0, prompt_sd=1.0, runs=40, seed=1))
    assert outcome.coverage >= 0.9
    assert outcome.naive_coverage <= 0.86
    assert outcome.false_alarms <= 0.05
    assert outcome.naive_false_alarms >= 0.3


def test_without_effects_of_rater_and_prompt_the_naive_interval_is_right_too():
    outcome = simulate(Simulation(raters=10, prompts=12, votes=8, rater_sd=0, prompt_sd=0, runs=40, seed=2))
    assert outcome.naive_coverage >= 0.88
    assert outcome.coverage >= 0.9


def test_a_clear_preference_is_found():
    outcome = simulate(Simulation(raters=40, prompts=12, votes=6, share=0.75, runs=5, seed=3))
    assert outcome.power == outcome.fixed_power == outcome.non_inferiority == 1
    assert outcome.false_alarms <= 0.1


def test_the_same_seed_gives_the_same_figures():
    few = Simulation(raters=3, prompts=6, votes=4, runs=4, seed=4)
    assert asdict(simulate(few)) == asdict(simulate(few))


@pytest.mark.parametrize("wrong", [{"votes": 9, "prompts": 8}, {"share": 1.0}, {"runs": 0}, {"rater_sd": -1}])
def test_what_cannot_be_simulated_is_refused(wrong):
    with pytest.raises(ValueError, match=r"share|votes"):
        Simulation(**wrong)
