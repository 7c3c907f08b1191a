"""The clean prediction of a scheduler's steps, from a network that knows the answer."""

from __future__ import annotations

import diffusers
import pytest
import torch

from tdm_core.backbones.clean import step_times, watch_steps
from tdm_core.backbones.schedulers import CogVideoXDDIMScheduler, DDIMScheduler, DPMSolverMultistepScheduler

STEPS = 5
TRAINED = {"num_train_timesteps": 1000}
VP = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
COG = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
SCHEDULERS = {
    "flow": lambda: diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    "flow dpm": lambda: DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    ),
    "dpm": lambda: DPMSolverMultistepScheduler(**VP, steps_offset=1),
    "ddim": lambda: DDIMScheduler(**VP, steps_offset=1, timestep_spacing="trailing", clip_sample=False),
    "euler": lambda: diffusers.EulerDiscreteScheduler(**VP, steps_offset=1, timestep_spacing="leading"),
    "cogvideox": lambda: CogVideoXDDIMScheduler(**COG, clip_sample=False),
    "lcm": lambda: diffusers.LCMScheduler(**VP),
}


def perfect_output(scheduler, index, t, x, x0):
    """What a network puts out that knows the clean sample."""
    if "flow" in str(scheduler.config.get("prediction_type")) or "FlowMatch" in type(scheduler).__name__:
        return (x - x0) / scheduler.sigmas[index]
    if isinstance(scheduler, diffusers.EulerDiscreteScheduler):
        return (x - x0) / scheduler.sigmas[index]
    abar = scheduler.alphas_cumprod[int(t)].double()
    noise = (x.double() - abar.sqrt() * x0) / (1 - abar).sqrt()
    output = noise if scheduler.config.prediction_type == "epsilon" else abar.sqrt() * noise - (1 - abar).sqrt() * x0
    return output.float()


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_perfect_network_s_clean_prediction_is_the_clean_sample(name):
    scheduler = SCHEDULERS[name]()
    scheduler.set_timesteps(STEPS)
    torch.manual_seed(0)
    x0, x = torch.randn(2, 4, 6, 6), torch.randn(2, 4, 6, 6) * getattr(scheduler, "init_noise_sigma", 1.0)
    own = scheduler.step
    with watch_steps(scheduler) as steps:
        for index, t in enumerate(scheduler.timesteps):
            scaled = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
            assert scaled.shape == x.shape
            output = perfect_output(scheduler, index, t, x, x0)
            x = scheduler.step(output, t, x, return_dict=False)[0]
            assert torch.allclose(steps.clean.float(), x0, atol=2e-3), index
    assert scheduler.step == own
    assert steps.times == pytest.approx(step_times(scheduler))
    assert steps.times == sorted(steps.times, reverse=True)
    assert 0.9 < steps.times[0] <= 1.001 or name == "euler"
