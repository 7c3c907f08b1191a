"""A noise process is two coefficients; everything else must follow from them."""

import pytest
import torch
from diffusers import DDPMScheduler

from tdm_core.diffusion.noise import expand, flow_matching, variance_preserving

TABLE = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod
PROCESSES = {"flow": flow_matching(), "vp": variance_preserving(TABLE)}
process_of_each_kind = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())


@process_of_each_kind
def test_renoising_a_state_gives_the_law_of_the_later_time(process):
    s, t = torch.tensor([0.0, 0.2, 0.5]), torch.tensor([0.3, 0.21, 0.98])
    scale, beta = process.renoise_coefficients(s, t)
    assert scale.dtype == beta.dtype == torch.float64
    torch.testing.assert_close(scale * process.alpha(s), process.alpha(t))
    torch.testing.assert_close((scale * process.sigma(s)) ** 2 + beta**2, process.sigma(t) ** 2)


def test_renoised_samples_have_the_mean_and_variance_of_the_later_time():
    process, generator = flow_matching(), torch.Generator().manual_seed(0)
    s, t = torch.full((200_000,), 0.3), torch.full((200_000,), 0.6)
    x_0 = torch.full((200_000, 1), 2.0)
    noises = torch.randn(2, 200_000, 1, generator=generator)
    x_t = process.renoise(process.add_noise(x_0, noises[0], s), noises[1], s=s, t=t)
    assert x_t.mean().item() == pytest.approx(0.4 * 2.0, abs=0.01)
    assert x_t.std().item() == pytest.approx(0.6, abs=0.01)


@process_of_each_kind
def test_renoising_refuses_to_go_towards_the_clean_sample(process):
    with pytest.raises(ValueError, match=r"t noisier than s.*0\.5.*0\.4"):
        process.renoise(torch.zeros(1, 2), torch.zeros(1, 2), s=torch.tensor([0.5]), t=torch.tensor([0.4]))


def test_renoising_over_no_time_changes_nothing():
    process, x, s = flow_matching(), torch.randn(3, 2), torch.tensor([0.1, 0.5, 0.9])
    assert torch.equal(process.renoise(x, torch.randn(3, 2), s=s, t=s), x)


def test_beta_keeps_its_precision_where_a_segment_starts():
    """In half precision, as the published script computes it, beta would be off by several per cent here."""
    s = torch.tensor([0.6], dtype=torch.float64)
    _, beta = flow_matching().renoise_coefficients(s, s + 1e-3)
    # By hand: beta^2 = t^2 - ((1-t)/(1-s) s)^2 with s = .6, t = .601: .361201 - .35820225 = .00299875
    assert beta.item() == pytest.approx(0.00299875**0.5, rel=1e-9)


def test_variance_preserving_table_is_met_exactly_at_its_own_times():
    process = PROCESSES["vp"]
    t = torch.tensor([250, 500, 750, 1000]) / 1000
    torch.testing.assert_close(process.model_time(t), torch.tensor([249.0, 499, 749, 999], dtype=torch.float64))
    torch.testing.assert_close(process.alpha(t) ** 2, TABLE.double()[[249, 499, 749, 999]])
    clean = torch.zeros(1)
    assert (process.alpha(clean).item(), process.sigma(clean).item()) == (1.0, 0.0)


def test_flow_time_is_fed_in_thousandths():
    assert flow_matching().model_time(torch.tensor([0.25])).item() == 250.0


def test_coefficients_meet_states_in_the_states_own_type():
    state = torch.zeros(2, 3, 4, 4, dtype=torch.bfloat16)
    coefficient = expand(torch.tensor([0.1, 0.2], dtype=torch.float64), state)
    assert (coefficient.shape, coefficient.dtype) == ((2, 1, 1, 1), torch.bfloat16)
