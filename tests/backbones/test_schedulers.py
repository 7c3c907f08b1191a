"""Schedulers on times of one's own: true DDIM at the trained nodes, the stock class everywhere else."""

import diffusers
import pytest
import torch
from torch.testing import assert_close

from tdm_core.backbones import schedulers
from tdm_core.backbones.schedulers import given_times, make_scheduler
from tdm_core.errors import ConfigError
from tests.published import ddim

COGVIDEOX = {
    "snr_shift_scale": 3.0,
    "rescale_betas_zero_snr": True,
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "clip_sample": False,
}
TRAINED = [999, 856, 665, 399]


def roll(scheduler, **grid):
    """All steps from one noise with a made-up network that depends on state and time."""
    scheduler.set_timesteps(**grid)
    x = torch.randn(1, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t), t, x, return_dict=False)[0]
    return x


def network(x, t):
    return torch.sin(3 * x + t / 300)


def test_trained_grid_of_cogvideox_is_true_ddim():
    found = roll(schedulers.CogVideoXDDIMScheduler(**COGVIDEOX), timesteps=TRAINED)
    noise = torch.randn(1, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = ddim(diffusers.CogVideoXDDIMScheduler(**COGVIDEOX), TRAINED, noise, network)
    assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_stock_cogvideox_scheduler_would_jump_wrongly_on_that_grid():
    stock = diffusers.CogVideoXDDIMScheduler(**COGVIDEOX)
    stock.set_timesteps(4)
    stock.timesteps = torch.tensor(TRAINED)
    x = torch.randn(1, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for t in stock.timesteps:
        x = stock.step(network(x, t), t, x, return_dict=False)[0]
    right = roll(schedulers.CogVideoXDDIMScheduler(**COGVIDEOX), timesteps=TRAINED)
    assert (x - right).abs().mean() > 0.1


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("CogVideoXDDIMScheduler", COGVIDEOX),
        ("DDIMScheduler", {"timestep_spacing": "trailing", "clip_sample": False, "beta_schedule": "scaled_linear"}),
    ],
)
@pytest.mark.parametrize("steps", [4, 5])
def test_uniform_grid_is_the_stock_schedulers_however_it_is_given(name, config, steps):
    stock = roll(getattr(diffusers, name)(**config), num_inference_steps=steps)
    ours = getattr(schedulers, name)(**config)
    assert torch.equal(roll(ours, num_inference_steps=steps), stock)
    timesteps = [1000 - 1000 * step // steps - 1 for step in range(steps)]
    assert_close(roll(ours, timesteps=timesteps), stock, atol=1e-5, rtol=1e-5)
    assert torch.equal(roll(ours, num_inference_steps=steps), stock)  # and after that too


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")  # diffusers, numpy 2.4
def test_flow_solver_takes_sigmas_and_is_the_stock_one_on_its_own():
    config = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 6.0}
    stock, ours = diffusers.DPMSolverMultistepScheduler(**config), schedulers.DPMSolverMultistepScheduler(**config)
    expected = roll(stock, num_inference_steps=4)
    assert torch.equal(roll(ours, num_inference_steps=4), expected)
    sigmas = [0.818, 0.6, 0.333]
    roll(ours, sigmas=[1.0, *sigmas])
    assert_close(ours.sigmas, torch.tensor([0.9999, *sigmas, 0.0]))
    stock.set_timesteps(4)
    assert_close(roll(ours, sigmas=stock.sigmas[:-1].tolist()), expected, atol=1e-4, rtol=1e-4)


def test_times_are_sigmas_of_flow_models_and_timesteps_of_the_others():
    times = [1.0, 0.857, 0.666, 0.4]
    assert given_times(schedulers.DDIMScheduler(), times) == {"timesteps": TRAINED}
    assert given_times(diffusers.LCMScheduler(), times) == {"timesteps": TRAINED}
    assert given_times(diffusers.FlowMatchEulerDiscreteScheduler(), times) == {"sigmas": times}
    assert given_times(schedulers.DDIMScheduler(), None) == {}


def test_scheduler_that_takes_no_times_is_refused_with_the_cure():
    with pytest.raises(ConfigError, match="PNDMScheduler takes no time nodes") as refusal:
        given_times(diffusers.PNDMScheduler(), [1.0])
    assert len(str(refusal.value).splitlines()) == 2


def test_setting_that_the_scheduler_does_not_have_is_refused():
    with pytest.raises(ConfigError, match="DDIMScheduler has no setting 'flow_shift'"):
        make_scheduler(None, "DDIMScheduler", {"flow_shift": 3.0})
