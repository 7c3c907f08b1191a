from itertools import product

import numpy as np
import pytest
from scipy.stats import norm, sem, t, ttest_ind

from benchmarks.evaluation import scipys_interval
from tdm_core.stats import (
    bootstrap_means,
    clustered_bootstrap,
    clustered_mean,
    degrees_of_freedom,
    paired_difference,
)


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_intervals_are_scipys_on_the_same_resamples(confidence):
    rng = np.random.default_rng(2)
    scores = {f"{i:02d}": rng.random(4).tolist() for i in range(20)}
    ours = clustered_bootstrap(scores, confidence=confidence, seed=5)
    assert (ours.low, ours.high) == pytest.approx(scipys_interval(scores, confidence=confidence, seed=5), abs=1e-12)
    # And without SciPy's resampling: the variance is that of a mean, the ends are nearly Student's.
    means = [np.mean(values) for values in scores.values()]
    assert bootstrap_means(scores, resamples=200_000).std() == pytest.approx(sem(means), rel=0.01)
    student = t.interval(confidence, df=19, loc=np.mean(means), scale=sem(means))
    many = clustered_bootstrap(scores, confidence=confidence, resamples=200_000)
    assert (many.low, many.high) == pytest.approx(student, abs=0.15 * sem(means))


def test_all_that_can_be_drawn_agrees_with_an_enumeration():
    scores = {"a": [0.1, 0.3], "b": [0.7], "c": [0.2, 0.2, 0.9], "d": [0.5]}  # of unequal sizes: a ratio of sums
    drawn = [[*scores[x], *scores[y], *scores[z]] for x, y, z in product(scores, repeat=3)]
    exact = {round(float(np.mean(values)), 9) for values in drawn}
    found = bootstrap_means(scores, resamples=20_000)
    assert set(found.round(9).tolist()) == exact
    assert found.mean() == pytest.approx(np.mean([np.mean(values) for values in drawn]), abs=0.005)


def test_degrees_of_freedom_are_satterthwaites():
    rng = np.random.default_rng(1)
    scores = {
        f"{tag}{i}": [rng.normal(scale=spread)] for tag, n, spread in (("a", 5, 1), ("b", 9, 3)) for i in range(n)
    }
    strata = {name: name[0] for name in scores}
    first, second = ([v[0] for name, v in scores.items() if name[0] == tag] for tag in "ab")
    assert degrees_of_freedom(scores) == pytest.approx(13)
    assert degrees_of_freedom(scores, strata=strata) == pytest.approx(ttest_ind(first, second, equal_var=False).df)
    assert degrees_of_freedom({"a": [1.0, 0.0]}) == 1
    assert degrees_of_freedom({name: [1.0] for name in "abc"}) == 2


def test_few_clusters_in_strata_cover_the_truth():
    rng, covered, studies = np.random.default_rng(0), 0, 300
    strata = {f"{i:02d}": i % 6 for i in range(24)}
    for study in range(studies):
        chances = norm.cdf(np.linspace(-0.3, 1, 6)[list(strata.values())] + rng.normal(0, 0.8, size=24))
        scores = {name: rng.binomial(1, p, 4).tolist() for name, p in zip(strata, chances, strict=True)}
        estimate = clustered_bootstrap(scores, strata=strata, resamples=500, seed=study)
        truth = norm.cdf(np.linspace(-0.3, 1, 6) / (1 + 0.8**2) ** 0.5).mean()
        covered += estimate.low <= truth <= estimate.high
    assert 0.93 <= covered / studies <= 0.985  # a plain bootstrap: 0.89


def test_two_clusters_give_the_two_means_that_can_be_drawn():
    # One is drawn of two, as often the one as the other: a variance of 1/4, that of the mean of 0 and 1.
    means = bootstrap_means({"a": [0.0, 0.0], "b": [1.0, 1.0]}, resamples=4000)
    values, counts = np.unique(means, return_counts=True)
    assert values.tolist() == [0.0, 1.0]
    assert counts / 4000 == pytest.approx([0.5, 0.5], abs=0.03)


def test_standard_error_agrees_with_that_of_the_cluster_means():
    rng = np.random.default_rng(0)
    scores = {str(i): (rng.normal() + 0.1 * rng.normal(size=4)).tolist() for i in range(200)}
    cluster_means = [np.mean(values) for values in scores.values()]
    expected = np.std(cluster_means, ddof=1) / 200**0.5
    assert bootstrap_means(scores, resamples=4000).std() == pytest.approx(expected, rel=0.05)


def test_strata_count_equally_whatever_their_sizes():
    scores = {"a": [1.0], "a2": [1.0], "b": [0.0], "c": [0.0], "d": [0.0], "e": [0.0]}
    strata = {name: "colour" if name.startswith("a") else "count" for name in scores}
    assert clustered_mean(scores) == pytest.approx(1 / 3)
    estimate = clustered_bootstrap(scores, strata=strata)
    assert (estimate.value, estimate.low, estimate.high) == (0.5, 0.5, 0.5)  # no spread within a stratum


def test_strata_of_one_cluster_are_drawn_from_together():
    scores = {"a": [1.0, 1.0], "b": [0.0], "c": [0.5], "d": [0.5]}
    strata = {"a": "colour", "b": "count", "c": "position", "d": "position"}
    means = bootstrap_means(scores, strata=strata, resamples=4000)
    # A third each: position is 1/2 whatever is drawn; of colour and count the one or the other.
    values, counts = np.unique(means.round(9), return_counts=True)
    assert values == pytest.approx([1 / 6, 5 / 6])
    assert counts / 4000 == pytest.approx([0.5, 0.5], abs=0.03)
    assert clustered_mean(scores, strata=strata) == 0.5


def test_a_lone_stratum_of_one_cluster_joins_the_smallest_other():
    scores = {"a": [1.0], "b": [0.0], "c": [0.0]}
    strata = {"a": "colour", "b": "count", "c": "count"}
    means = bootstrap_means(scores, strata=strata, resamples=4000)
    # Each of the strata keeps half: a counts twice what b and c do, so k draws of a in two make 2k / (2k + 2 - k).
    values, counts = np.unique(means.round(9), return_counts=True)
    assert values == pytest.approx([0, 2 / 3, 1])
    assert counts / 4000 == pytest.approx([4 / 9, 4 / 9, 1 / 9], abs=0.03)
    assert clustered_mean(scores, strata=strata) == 0.5


def test_pairing_removes_what_both_share():
    rng = np.random.default_rng(3)
    hard = {str(i): rng.normal(size=4) for i in range(100)}
    better = {name: (values + 0.1).tolist() for name, values in hard.items()}
    estimate = paired_difference(better, {name: values.tolist() for name, values in hard.items()})
    assert (estimate.low, estimate.value, estimate.high) == pytest.approx((0.1, 0.1, 0.1))
    assert estimate.share_below_zero == 0
    assert (estimate.clusters, estimate.n) == (100, 400)


def test_swapping_the_sides_changes_the_sign_and_nothing_else():
    rng = np.random.default_rng(4)
    first = {str(i): rng.random(2).tolist() for i in range(30)}
    second = {str(i): rng.random(2).tolist() for i in range(30)}
    there, back = paired_difference(first, second), paired_difference(second, first)
    assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))


def test_the_order_of_the_mapping_does_not_matter():
    rng = np.random.default_rng(5)
    scores = {str(i): rng.random(3).tolist() for i in range(20)}
    assert clustered_bootstrap(scores) == clustered_bootstrap(dict(reversed(scores.items())))


def test_equal_seeds_draw_equal_clusters():
    scores = {str(i): [float(i)] for i in range(20)}
    doubled = {name: [2 * values[0]] for name, values in scores.items()}
    assert bootstrap_means(doubled, seed=7) == pytest.approx(2 * bootstrap_means(scores, seed=7))


@pytest.mark.parametrize("second", [{"a": [1.0]}, {"a": [1.0], "b": [1.0, 2.0]}], ids=["cluster", "value"])
def test_unpaired_scores_are_refused(second):
    with pytest.raises(ValueError, match="unpaired"):
        paired_difference({"a": [1.0], "b": [1.0]}, second)


def test_an_empty_cluster_is_refused():
    with pytest.raises(ValueError, match="values in each"):
        clustered_bootstrap({"a": []})


def test_a_cluster_without_stratum_is_named():
    with pytest.raises(ValueError, match="'b'"):
        clustered_bootstrap({"a": [1.0], "b": [1.0]}, strata={"a": 1})
