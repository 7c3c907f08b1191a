from itertools import pairwise
from math import log

import numpy as np
import pytest

from tdm_core.stats import betting_interval, capital


def test_capital_of_two_scores_by_hand():
    # First bet: sqrt(2 ln 40 / (1/4 * 1 * ln 2)) = 6.5, cut to 1/2 over m = 1/2: 1. Then K+ = 1 + 1/2 and K- = 1/2.
    # After x = 1 the running mean is 3/4, the variance (1/4 + 1/16) / 2; the bet is cut to 1 again.
    after = capital([1.0, 1.0], np.array([0.5]))[:, 0]
    assert after == pytest.approx([log(1.5 / 2), log(1.5**2 / 2)])


def test_small_bets_follow_the_formula():
    scores = np.random.default_rng(0).random(200)
    means, alpha, log_up, log_down = np.array([0.3]), 0.05, 0.0, 0.0
    running, squares, variance = 0.5, 0.25, 0.25
    for t, x in enumerate(scores, 1):
        bet = np.sqrt(2 * log(2 / alpha) / (variance * t * log(1 + t)))
        log_up += np.log1p(min(bet, 0.5 / 0.3) * (x - 0.3))
        log_down += np.log1p(-min(bet, 0.5 / 0.7) * (x - 0.3))
        running += x
        squares += (x - running / (t + 1)) ** 2
        variance = squares / (t + 1)
    assert capital(scores, means)[-1, 0] == pytest.approx(max(log_up, log_down) - log(2))


def test_nobody_has_been_asked():
    assert betting_interval([]) == (0.0, 1.0)


def test_the_interval_shrinks_towards_the_mean_and_never_widens():
    scores = np.random.default_rng(1).beta(6, 4, 300)
    intervals = [betting_interval(scores[:count]) for count in (10, 30, 100, 300)]
    for wide, narrow in pairwise(intervals):
        assert wide.low <= narrow.low < 0.6 < narrow.high <= wide.high
    assert intervals[-1].high - intervals[-1].low < 0.09


def test_swapping_the_arms_mirrors_the_interval():
    scores = np.random.default_rng(2).random(50)
    there, back = betting_interval(scores), betting_interval(1 - scores)
    assert (there.low, there.high) == pytest.approx((1 - back.high, 1 - back.low))


def test_looking_after_every_score_raises_few_false_alarms():
    rng = np.random.default_rng(3)
    alarms = sum(
        capital(rng.choice([0.0, 1.0], 300), np.array([0.5])).max() >= log(20) for _ in range(400)
    )  # the hardest scores there are
    assert alarms / 400 <= 0.05


def test_scores_that_contradict_every_mean_leave_a_point():
    interval = betting_interval([0.0] * 200 + [1.0] * 2000)
    assert 0 <= interval.low <= interval.high <= 1


@pytest.mark.parametrize("scores", [[1.1], [-0.1], [float("nan")]])
def test_impossible_scores_are_refused(scores):
    with pytest.raises(ValueError, match="lies in"):
        betting_interval(scores)
