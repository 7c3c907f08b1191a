import krippendorff
import numpy as np
import pytest

from tdm_core.stats import krippendorff_alpha


@pytest.mark.parametrize("ordinal", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_the_reference_implementation(seed, ordinal):
    rng = np.random.default_rng(seed)
    truth = rng.integers(3, size=12)
    ratings = np.where(rng.random((7, 12)) < 0.6, truth, rng.integers(3, size=(7, 12))).astype(float)
    ratings[rng.random((7, 12)) < 0.3] = np.nan
    units = [[value for value in column if not np.isnan(value)] for column in ratings.T]
    expected = krippendorff.alpha(
        ratings, level_of_measurement="ordinal" if ordinal else "nominal", value_domain=[0.0, 1.0, 2.0]
    )
    assert krippendorff_alpha(units, scale=[0.0, 1.0, 2.0], ordinal=ordinal) == pytest.approx(expected)


@pytest.mark.parametrize("units", [[], [["a"], ["b"]], [["a", "a"], ["a", "a"]]], ids=["none", "single", "alike"])
def test_where_nothing_can_be_compared_there_is_no_figure(units):
    assert krippendorff_alpha(units, scale=["a", "b"]) is None
