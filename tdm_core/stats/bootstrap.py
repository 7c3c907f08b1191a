"""Means and paired differences of scores that come in clusters: all pictures of one prompt are resampled together.

Pictures of one prompt resemble each other, so prompts are drawn, never pictures. With ``strata`` (the categories of a
suite) prompts are drawn within each stratum and the strata count equally: the estimate is the mean of their means.
A stratum of one prompt has nothing to draw from, and would look certain: such strata are collapsed into one, as surveys
do (Cochran, Sampling Techniques, 5A.12).

A plain bootstrap is too narrow for few prompts: its variance lacks n / (n - 1) in every stratum, and the normal law has
no tails for an estimated spread. So each stratum gives one prompt fewer than it has (Rao and Wu, JASA 83, 1988), which
mends the variance and keeps every resample a true mean, and the interval ends where Student's t would, at percentiles
a little further out (Hesterberg, The American Statistician 69, 2015).  Coverage: ``benchmarks/evaluation.py``.
The same seed draws the same prompts, so ratios of two estimates can be formed from ``bootstrap_means`` draw by draw.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

Scores = Mapping[str, Sequence[float]]  # cluster (prompt) -> the scores of its pictures
Strata = Mapping[str, Hashable]  # cluster (prompt) -> its stratum (category)


@dataclass(frozen=True, kw_only=True)
class BootstrapEstimate:
    """A mean with its percentile interval; of a difference, ``share_below_zero`` tells how sure its sign is."""

    value: float
    low: float
    high: float
    share_below_zero: float  # of the resamples, in [0, 1]
    clusters: int
    n: int


def clustered_bootstrap(
    values_by_cluster: Scores,
    *,
    strata: Strata | None = None,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> BootstrapEstimate:
    """The mean over all values, resampled by cluster.

    Raises:
        ValueError: without clusters, with an empty cluster, or with a cluster that has no stratum.
    """
    means = bootstrap_means(values_by_cluster, strata=strata, resamples=resamples, seed=seed)
    tail = float(ndtr(stdtrit(degrees_of_freedom(values_by_cluster, strata=strata), (1 - confidence) / 2)))
    low, high = np.quantile(means, [tail, 1 - tail])
    return BootstrapEstimate(
        value=clustered_mean(values_by_cluster, strata=strata),
        low=float(low),
        high=float(high),
        share_below_zero=float((means < 0).mean()),
        clusters=len(values_by_cluster),
        n=sum(len(values) for values in values_by_cluster.values()),
    )


def paired_difference(
    first: Scores,
    second: Scores,
    *,
    strata: Strata | None = None,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> BootstrapEstimate:
    """The mean of ``first - second``, picture by picture: both hold the same clusters, in each the same pictures.

    Raises:
        ValueError: if the two differ in their clusters or in the number of values of one of them.
    """
    if first.keys() != second.keys():
        raise ValueError(f"unpaired clusters: {sorted(first.keys() ^ second.keys())[:3]}")
    unequal = [name for name in first if len(first[name]) != len(second[name])]
    if unequal:
        raise ValueError(f"unpaired values in cluster {unequal[0]!r}")
    differences = {name: np.subtract(first[name], second[name]).tolist() for name in first}
    return clustered_bootstrap(differences, strata=strata, resamples=resamples, confidence=confidence, seed=seed)


def clustered_mean(values_by_cluster: Scores, *, strata: Strata | None = None) -> float:
    """The mean over all values; with strata the mean of the strata's means."""
    groups = _by_stratum(values_by_cluster, strata)
    total = sum(strata_in_it * sums.sum() / counts.sum() for strata_in_it, sums, counts in groups)
    return float(total / sum(strata_in_it for strata_in_it, _, _ in groups))


def bootstrap_means(
    values_by_cluster: Scores, *, strata: Strata | None = None, resamples: int = 2000, seed: int = 0
) -> NDArray[np.float64]:
    """The mean of each resample, [resamples]; equal seeds and cluster names draw equal clusters.

    Their variance is the unbiased one: n clusters of a stratum give n - 1, with replacement.
    """
    rng = np.random.default_rng(seed)
    total = np.zeros(resamples)
    groups = _by_stratum(values_by_cluster, strata)
    for strata_in_it, sums, counts in groups:
        drawn = rng.integers(len(sums), size=(resamples, max(1, len(sums) - 1)))
        total += strata_in_it * sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return total / sum(strata_in_it for strata_in_it, _, _ in groups)


def degrees_of_freedom(values_by_cluster: Scores, *, strata: Strata | None = None) -> float:
    """Of the variance of the mean: n - 1 clusters, over strata put together as their variances are; at least 1.

    Source: Satterthwaite, Biometrics Bulletin 2 (1946); each stratum's variance is that of a ratio of sums.
    """
    total = spread = free = 0.0
    for strata_in_it, sums, counts in _by_stratum(values_by_cluster, strata):
        freedom = len(sums) - 1
        if not freedom:
            continue
        residuals = sums - counts * sums.sum() / counts.sum()
        variance = len(sums) / freedom * (strata_in_it / counts.sum()) ** 2 * float(residuals @ residuals)
        total, spread, free = total + variance, spread + variance**2 / freedom, free + freedom
    return max(1.0, total**2 / spread if spread > 0 else free)


def _by_stratum(
    values_by_cluster: Scores, strata: Strata | None
) -> list[tuple[int, NDArray[np.float64], NDArray[np.float64]]]:
    """Per group the number of its strata, mostly one, and the sums and the counts of its clusters.

    In collapsed strata they are weighted, so that each of these counts equally.
    """
    if not values_by_cluster or not all(len(values) for values in values_by_cluster.values()):
        raise ValueError("a bootstrap needs clusters, and values in each")
    if strata is not None and not values_by_cluster.keys() <= strata.keys():
        raise ValueError(f"no stratum for {sorted(values_by_cluster.keys() - strata.keys())[:3]}")
    groups: dict[Hashable, list[str]] = {}
    for name in sorted(values_by_cluster):
        groups.setdefault(strata[name] if strata else None, []).append(name)
    found = []
    for together in _collapsed(list(groups.values())):
        sums, counts = [], []
        for names in together:
            values = [values_by_cluster[name] for name in names]
            weight = 1 / sum(map(len, values)) if len(together) > 1 else 1.0
            sums += [weight * np.sum(each) for each in values]
            counts += [weight * len(each) for each in values]
        found.append((len(together), np.array(sums, dtype=float), np.array(counts, dtype=float)))
    return found


def _collapsed(groups: list[list[str]]) -> list[list[list[str]]]:
    """The strata that are drawn from together: those of one cluster, a lone one with the smallest other."""
    alone = [names for names in groups if len(names) == 1]
    others = [names for names in groups if len(names) > 1]
    if len(alone) == 1 and others:
        smallest = min(others, key=len)
        others.remove(smallest)
        alone.append(smallest)
    return [*([names] for names in others), *([alone] if alone else [])]
