"""How uncertain a share or a difference is: intervals, clustering and resampling, pure NumPy and SciPy."""

from tdm_core.stats.bootstrap import (
    BootstrapEstimate,
    bootstrap_means,
    clustered_bootstrap,
    clustered_mean,
    paired_difference,
)
from tdm_core.stats.clustered import ShareEstimate, clustered_share
from tdm_core.stats.intervals import Interval, fair_coin_p_value, score_interval, wilson_interval

__all__ = [
    "BootstrapEstimate",
    "Interval",
    "ShareEstimate",
    "bootstrap_means",
    "clustered_bootstrap",
    "clustered_mean",
    "clustered_share",
    "fair_coin_p_value",
    "paired_difference",
    "score_interval",
    "wilson_interval",
]
