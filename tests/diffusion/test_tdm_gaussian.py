"""In one dimension everything is known: which critic target has the true score as its optimum, and where.

Data are N(0, V); the student sits exactly on the teacher's probability-flow trajectory, so teacher and critic should
agree everywhere and the student should rest.  The best critic is linear in x_tau and found by least squares.
"""

import pytest
import torch

from tdm_core.diffusion.noise import flow_matching
from tdm_core.diffusion.objectives import tdm
from tdm_core.diffusion.prediction import Prediction, PredictionType

PROCESS, VARIANCE, SAMPLES = flow_matching(), 0.25, 400_000


def marginal_variance(t):
    return PROCESS.alpha(t) ** 2 * VARIANCE + PROCESS.sigma(t) ** 2


def student_on_the_trajectory(t, s, generator):
    """States at t, the exact map to s, and the x0 that a student must predict to land there.  All [N, 1]."""
    x_t = marginal_variance(t).sqrt()[:, None] * torch.randn(SAMPLES, 1, dtype=torch.float64, generator=generator)
    x_s = (marginal_variance(s) / marginal_variance(t)).sqrt()[:, None] * x_t
    alpha_t, sigma_t, alpha_s, sigma_s = (
        coefficient[:, None] for coefficient in (PROCESS.alpha(t), PROCESS.sigma(t), PROCESS.alpha(s), PROCESS.sigma(s))
    )
    x0 = (sigma_t * x_s - sigma_s * x_t) / (sigma_t * alpha_s - sigma_s * alpha_t)
    return x_s, x0


def best_slope(losses_of):
    """The minimiser of a mean loss that is quadratic in the slope of a linear critic."""
    slope = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(losses_of(slope).mean(), slope, create_graph=True)
    (curvature,) = torch.autograd.grad(gradient, slope)
    return -(gradient / curvature).item()


def critics(t, s, tau):
    """Slopes in x_tau of the x0 prediction: true, of the ambient target, of the published target."""
    generator = torch.Generator().manual_seed(0)
    t, s, tau = (torch.full((SAMPLES,), value, dtype=torch.float64) for value in (t, s, tau))
    x_s, x0 = student_on_the_trajectory(t, s, generator)
    noise = torch.randn(SAMPLES, 1, dtype=torch.float64, generator=generator)
    x_tau = PROCESS.renoise(x_s, noise, s=s, t=tau)
    alpha, sigma = PROCESS.alpha(tau[:1]).item(), PROCESS.sigma(tau[:1]).item()

    def ambient(slope):  # of the noise prediction
        return tdm.ambient_fake_loss(Prediction(x_tau, slope * x_tau), noise, s, tau, PROCESS, largest_weight=11.0)

    def published(slope):  # of the x0 prediction
        weight = tdm.snr_weight(tdm.SnrWeight.MIN_SNR, PredictionType.FLOW, tau, PROCESS, cap=5.0)
        return tdm.x0_fake_loss(Prediction(slope * x_tau, x_tau), x0, weight)

    true = (1 - sigma**2 / marginal_variance(tau[:1]).item()) / alpha
    return true, (1 - sigma * best_slope(ambient)) / alpha, best_slope(published)


@pytest.mark.parametrize(("t", "s", "tau"), [(1.0, 0.75, 0.9), (0.75, 0.5, 0.65), (0.5, 0.25, 0.4), (0.25, 0.0, 0.15)])
def test_the_ambient_target_has_the_true_score_in_every_segment(t, s, tau):
    true, ambient, _ = critics(t, s, tau)
    assert ambient == pytest.approx(true, abs=0.01)


@pytest.mark.parametrize(("t", "s", "tau"), [(0.75, 0.5, 0.65), (0.5, 0.25, 0.4)])
def test_the_published_target_misses_the_true_score_before_the_last_segment(t, s, tau):
    true, _, published = critics(t, s, tau)
    assert abs(published - true) > 0.05


def test_both_targets_agree_in_the_last_segment():
    true, ambient, published = critics(0.25, 0.0, 0.15)
    assert (ambient, published) == (pytest.approx(true, abs=0.01), pytest.approx(true, abs=0.01))
