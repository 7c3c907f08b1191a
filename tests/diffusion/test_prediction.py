"""Every network output means one clean sample and one noise."""

import pytest
import torch
from diffusers import DDPMScheduler

from tdm_core.diffusion.noise import flow_matching, variance_preserving
from tdm_core.diffusion.prediction import Prediction, PredictionType, guide, network_output, predict

TABLE = DDPMScheduler(beta_start=0.0001, beta_end=0.02).alphas_cumprod
CASES = [
    (PredictionType.EPSILON, variance_preserving(TABLE)),
    (PredictionType.V, variance_preserving(TABLE)),
    (PredictionType.FLOW, flow_matching()),
    (PredictionType.EPSILON, flow_matching()),
    (PredictionType.V, flow_matching()),
]


@pytest.mark.parametrize(("kind", "process"), CASES, ids=lambda value: str(value) if isinstance(value, str) else "")
def test_a_perfect_output_gives_back_sample_and_noise(kind, process):
    generator = torch.Generator().manual_seed(0)
    x_0, noise = torch.randn(2, 4, 3, 5, dtype=torch.float64, generator=generator)
    t = torch.tensor([0.05, 0.4, 0.7, 0.95])
    output = network_output(kind, Prediction(x_0, noise), t, process)
    found = predict(kind, output, process.add_noise(x_0, noise, t), t, process)
    torch.testing.assert_close(found.x0, x_0)
    torch.testing.assert_close(found.noise, noise)


def test_v_prediction_needs_no_signal_at_the_last_time():
    """CogVideoX ends at zero signal: going through epsilon there would divide by zero."""
    process = variance_preserving([0.9, 0.5, 0.0])
    x_t, v, t = torch.tensor([[0.3]]), torch.tensor([[-0.8]]), torch.ones(1)
    found = predict(PredictionType.V, v, x_t, t, process)
    torch.testing.assert_close(found, Prediction(torch.tensor([[0.8]]), torch.tensor([[0.3]])))


def test_flow_output_is_noise_minus_sample():
    found = predict(
        PredictionType.FLOW, torch.tensor([[1.0]]), torch.tensor([[2.0]]), torch.tensor([0.25]), flow_matching()
    )
    # By hand: x0 = x - t o = 2 - .25, noise = x + (1 - t) o = 2 + .75
    torch.testing.assert_close(found, Prediction(torch.tensor([[1.75]]), torch.tensor([[2.75]])))


@pytest.mark.parametrize(("scale", "expected"), [(0.0, 1.0), (1.0, 3.0), (3.5, 8.0)])
def test_guidance_of_one_is_the_conditional_prediction(scale, expected):
    assert guide(torch.tensor(3.0), torch.tensor(1.0), scale).item() == expected
