import numpy as np
import pytest
from scipy.special import expit
from statsmodels.stats.multitest import multipletests

from tdm_core.stats import design_effect, holm, logit_of_mean_share, votes_for_non_inferiority, votes_for_share


@pytest.mark.parametrize(
    ("share", "votes"), [(0.55, 783), (0.57, 399), (0.60, 194), (0.65, 85), (0.70, 47), (0.4, 194)]
)
def test_votes_that_show_a_share(share, votes):
    assert votes_for_share(share) == votes  # Fleiss, Levin and Paik's table, two-sided 5 %, power 80 %


def test_power_at_the_planned_number_of_votes_is_what_was_planned():
    rng = np.random.default_rng(0)
    wins = rng.binomial(194, 0.6, 20_000)
    assert (np.abs(wins - 97) / (194 / 4) ** 0.5 > 1.96).mean() == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(("margin", "votes"), [(0.05, 619), (0.10, 155)])
def test_votes_that_show_not_worse(margin, votes):
    assert votes_for_non_inferiority(margin) == votes


def test_votes_of_one_rater_are_worth_less():
    assert design_effect(20, 0.05) == pytest.approx(1.95)
    assert design_effect(1, 0.9) == 1


@pytest.mark.parametrize("p_values", [[], [0.2], [0.01, 0.04, 0.03], [0.5, 0.001, 0.5, 0.02], [0.9, 0.8]])
def test_holm_agrees_with_statsmodels(p_values):
    expected = multipletests(p_values, method="holm")[1] if p_values else []
    assert holm(p_values) == pytest.approx(list(expected))


@pytest.mark.parametrize(("share", "spread"), [(0.5, 0.7), (0.6, 0.0), (0.6, 0.72), (0.97, 2.0)])
def test_effects_around_the_logit_have_the_mean_share(share, spread):
    effects = np.random.default_rng(1).normal(0, spread, 400_000)
    assert expit(logit_of_mean_share(share, spread) + effects).mean() == pytest.approx(share, abs=2e-3)


@pytest.mark.parametrize(
    "call", [lambda: votes_for_share(0.5), lambda: votes_for_non_inferiority(0), lambda: logit_of_mean_share(1, 1)]
)
def test_impossible_questions_are_refused(call):
    with pytest.raises(ValueError, match="got"):
        call()
