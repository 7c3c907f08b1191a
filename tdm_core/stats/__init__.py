"""How uncertain a share or a difference is: intervals, clustering and resampling, pure NumPy and SciPy."""

from tdm_core.stats.agreement import krippendorff_alpha
from tdm_core.stats.bootstrap import (
    BootstrapEstimate,
    bootstrap_means,
    clustered_bootstrap,
    clustered_mean,
    degrees_of_freedom,
    paired_difference,
)
from tdm_core.stats.clustered import ShareEstimate, clustered_share, even_share_p_value
from tdm_core.stats.intervals import Interval, fair_coin_p_value, score_interval, wilson_interval
from tdm_core.stats.planning import design_effect, holm, logit_of_mean_share, votes_for_non_inferiority, votes_for_share
from tdm_core.stats.sequences import betting_interval, capital

__all__ = [
    "BootstrapEstimate",
    "Interval",
    "ShareEstimate",
    "betting_interval",
    "bootstrap_means",
    "capital",
    "clustered_bootstrap",
    "clustered_mean",
    "clustered_share",
    "degrees_of_freedom",
    "design_effect",
    "even_share_p_value",
    "fair_coin_p_value",
    "holm",
    "krippendorff_alpha",
    "logit_of_mean_share",
    "paired_difference",
    "score_interval",
    "votes_for_non_inferiority",
    "votes_for_share",
    "wilson_interval",
]
