import numpy as np
import pytest
from scipy.special import expit

from tdm_core.stats import clustered_share, wilson_interval


def test_variance_of_four_votes_agrees_with_the_sum_by_hand():
    # Residuals +-1/2. Rater sums: a = 1/2 + 1/2 = 1, b = -1  -> 2/1 * (1 + 1) / 16 = 1/4.
    # Prompt sums: p = 1/2 - 1/2 = 0, q = 0                    -> 0.
    # Four cells, each (1/2)^2                                 -> 4/3 * 1 / 16 = 1/12.
    estimate = clustered_share([1, 1, 0, 0], ["a", "a", "b", "b"], ["p", "q", "p", "q"])
    assert estimate.value == 0.5
    assert estimate.standard_error == pytest.approx((1 / 4 + 0 - 1 / 12) ** 0.5)
    assert estimate.effective_votes == pytest.approx(0.25 / (1 / 6))
    assert (estimate.raters, estimate.prompts) == (2, 2)


def test_one_rater_on_many_prompts_has_the_standard_error_of_a_mean():
    scores = [1.0, 0.0, 0.5, 1.0, 1.0, 0.0, 1.0]
    estimate = clustered_share(scores, ["only"] * 7, list(range(7)))
    assert estimate.standard_error == pytest.approx(np.std(scores, ddof=1) / 7**0.5)


def test_votes_that_all_agree_still_have_a_width():
    estimate = clustered_share([1.0] * 40, ["only"] * 40, list(range(40)))
    assert estimate.high == 1.0
    assert 0.85 < estimate.low < 0.95


def test_one_vote_says_nothing():
    estimate = clustered_share([1.0], ["a"], ["p"])
    assert (estimate.value, estimate.low, estimate.high) == (1.0, 0.0, 1.0)


def test_ties_are_not_more_evidence_than_votes():
    estimate = clustered_share([0.5] * 39 + [1.0], ["only"] * 40, list(range(40)))
    assert estimate.effective_votes == 40


def test_swapping_the_arms_mirrors_the_interval():
    rng = np.random.default_rng(1)
    scores = rng.choice([0, 0.5, 1], 60)
    raters, prompts = np.arange(60) % 6, np.arange(60) % 10
    there, back = (clustered_share(list(s), list(raters), list(prompts)) for s in (scores, 1 - scores))
    assert (there.value, there.low, there.high) == pytest.approx((1 - back.value, 1 - back.high, 1 - back.low))


def test_interval_covers_the_truth_where_the_naive_one_does_not():
    rng = np.random.default_rng(2)
    raters = np.repeat(np.arange(30), 20)
    truth, runs, covered, naive = 0.5, 150, 0, 0
    for _ in range(runs):
        prompts = np.concatenate([rng.permutation(60)[:20] for _ in range(30)])
        chance = expit(rng.normal(0, 0.4, 30)[raters] + rng.normal(0, 0.6, 60)[prompts])
        scores = (rng.random(600) < chance).astype(float)
        estimate = clustered_share(scores.tolist(), raters.tolist(), prompts.tolist())
        low, high = wilson_interval(scores.sum(), 600)
        covered += estimate.low <= truth <= estimate.high
        naive += low <= truth <= high
    assert covered / runs >= 0.92
    assert naive / runs < 0.90


@pytest.mark.parametrize(
    "scores,raters,prompts", [([], [], []), ([1.0], ["a"], []), ([1.5], ["a"], ["p"])], ids=["none", "unequal", "range"]
)
def test_impossible_scores_are_refused(scores, raters, prompts):
    with pytest.raises(ValueError, match=r"clustered_share needs|lies in"):
        clustered_share(scores, raters, prompts)
