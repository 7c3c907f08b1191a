"""Query times: inside their interval, and of the law they are named after (SciPy's, where it has it)."""

import pytest
import torch
from scipy.stats import kstest, norm, truncnorm

from tdm_core.diffusion.times import TimeLaw, draw_times, query_interval

LAWS = pytest.mark.parametrize("law", TimeLaw)
EVEN = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000


def draw(u, first, last, **options):
    return draw_times(u, torch.full_like(u, first), torch.full_like(u, last), **options)


def test_queries_keep_their_distance_from_landing_and_pure_noise():
    s, end = torch.tensor([0.0, 0.6, 0.818182]), torch.tensor([0.333333, 0.818182, 1.0])
    first, last = query_interval(s, end, margin=0.03, latest=0.98)
    assert first.tolist() == pytest.approx([0.03, 0.63, 0.848182])
    assert last.tolist() == pytest.approx([0.333333, 0.818182, 0.98])


def test_a_margin_wider_than_the_segment_is_refused():
    with pytest.raises(ValueError, match="no time left"):
        query_interval(torch.tensor([0.9]), torch.tensor([1.0]), margin=0.09, latest=0.98)


@LAWS
@pytest.mark.parametrize(("first", "last"), [(0.03, 0.25), (0.5, 0.98), (0.9, 1.0), (1e-4, 2e-4)])
def test_a_law_reaches_both_ends_rises_and_stays_inside(law, first, last):
    u = torch.cat([torch.zeros(1), EVEN, torch.ones(1)]).double()
    times = draw(u, first, last, law=law, mean=-1.0, std=0.3, shift=3.0)
    assert times.dtype == torch.float64
    assert (times[0].item(), times[-1].item()) == (pytest.approx(first, rel=1e-6), pytest.approx(last, rel=1e-6))
    assert (times.diff() >= 0).all() and times.min() >= first and times.max() <= last


def test_uniform_times_are_uniform():
    assert kstest(draw(EVEN, 0.2, 0.6).numpy(), "uniform", args=(0.2, 0.4)).statistic < 1e-3


def test_logit_normal_times_are_a_cut_normal_in_the_logit():
    mean, std = 0.5, 0.8
    times = draw(EVEN, 0.3, 0.9, law=TimeLaw.LOGIT_NORMAL, mean=mean, std=std)
    low, high = ((torch.logit(torch.tensor(edge, dtype=torch.float64)).item() - mean) / std for edge in (0.3, 0.9))
    assert kstest(times.logit().numpy(), truncnorm(low, high, loc=mean, scale=std).cdf).statistic < 1e-3
    uncut = draw(EVEN, 1e-9, 1 - 1e-9, law=TimeLaw.LOGIT_NORMAL, mean=mean, std=std)
    assert kstest(uncut.logit().numpy(), norm(mean, std).cdf).statistic < 1e-3


def test_unshifted_times_are_uniform_before_the_shift():
    """TDM-R1: uniform v, then t = shift v / (1 + (shift - 1) v); over all of time, half of v is t = .75 at shift 3."""
    times = draw(EVEN, 1e-9, 1.0, law=TimeLaw.UNSHIFTED, shift=3.0)
    assert kstest((times / (3 - 2 * times)).numpy(), "uniform").statistic < 1e-3
    assert times.median().item() == pytest.approx(0.75, abs=1e-3)
    torch.testing.assert_close(draw(EVEN, 0.2, 0.6, law=TimeLaw.UNSHIFTED), draw(EVEN, 0.2, 0.6))
