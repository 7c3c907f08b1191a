import pytest
from scipy.stats import binomtest

from tdm_core.stats import fair_coin_p_value, wilson_interval


@pytest.mark.parametrize("successes,trials", [(0, 1), (1, 1), (7, 10), (312, 500), (0, 40), (40, 40)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_wilson_interval_agrees_with_scipy(successes, trials, confidence):
    expected = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    interval = wilson_interval(successes, trials, confidence=confidence)
    assert interval == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_interval_of_no_success_starts_at_exactly_zero():
    assert wilson_interval(0, 7).low == 0.0
    assert wilson_interval(7, 7).high == 1.0


@pytest.mark.parametrize("successes,trials", [(0, 0), (-1, 3), (4, 3)])
def test_wilson_interval_refuses_impossible_counts(successes, trials):
    with pytest.raises(ValueError, match=f"got {successes} of {trials}"):
        wilson_interval(successes, trials)


@pytest.mark.parametrize("successes,trials", [(0, 1), (5, 10), (1, 12), (11, 12), (300, 500)])
def test_fair_coin_test_agrees_with_scipy(successes, trials):
    assert fair_coin_p_value(successes, trials) == pytest.approx(binomtest(successes, trials).pvalue)


def test_fair_coin_test_of_one_left_in_five_is_twelve_of_thirty_two():
    # P(0) + P(1) = (1 + 5) / 32, and as much on the other side.
    assert fair_coin_p_value(1, 5) == pytest.approx(12 / 32)


def test_fair_coin_test_without_trials_says_nothing():
    assert fair_coin_p_value(0, 0) == 1.0
