"""The student's trajectory against diffusers' own schedulers, and its short cut to the exit steps."""

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

from tdm_core.diffusion.noise import flow_matching, variance_preserving
from tdm_core.diffusion.prediction import Prediction, PredictionType, predict
from tdm_core.diffusion.trajectory import draw_exits, move, roll_out, roll_to, time_nodes, x0_that_lands


def network(x, timestep):
    """Any smooth function of state and timestep will do."""
    return torch.tanh(0.7 * x) + timestep.view(-1, 1, 1).to(x) / 1000


def denoiser(kind, process):
    return lambda x, t: predict(kind, network(x, process.model_time(t)), x, t, process)


def sampled_by(scheduler, x):
    for timestep in scheduler.timesteps:
        x = scheduler.step(network(x, timestep.expand(len(x))), timestep, x).prev_sample
    return x


@pytest.fixture
def noise():
    return torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shift", [1.0, 1.5, 3.0])
def test_flow_roll_out_is_the_flow_matching_euler_scheduler(noise, shift):
    scheduler, nodes = FlowMatchEulerDiscreteScheduler(shift=1.0), time_nodes(4, shift)
    scheduler.set_timesteps(sigmas=nodes[:-1].tolist())
    *_, last = roll_out(denoiser(PredictionType.FLOW, flow_matching()), noise, nodes, flow_matching())
    torch.testing.assert_close(last.x_s, sampled_by(scheduler, noise), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", [PredictionType.EPSILON, PredictionType.V])
def test_variance_preserving_roll_out_is_ddim(noise, kind):
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear", prediction_type=kind, timestep_spacing="trailing", clip_sample=False
    )
    scheduler.set_timesteps(4)
    process = variance_preserving(scheduler.alphas_cumprod)
    *_, last = roll_out(denoiser(kind, process), noise, time_nodes(4), process)
    torch.testing.assert_close(last.x_s, sampled_by(scheduler, noise), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "process", [flow_matching(), variance_preserving(DDIMScheduler().alphas_cumprod)], ids=["flow", "vp"]
)
def test_the_x0_that_lands_is_the_one_that_moved(noise, process):
    """At t = 1 too, where flow matching has no signal."""
    t, s = torch.tensor([1.0, 0.8, 0.5]).double(), torch.tensor([0.7, 0.6, 0.0]).double()
    x0, e = noise.double().tanh(), noise.flip(0).double()
    x_t = move(Prediction(x0, e), t, process)
    found = x0_that_lands(x_t, move(Prediction(x0, e), s, process), t, s, process)
    torch.testing.assert_close(found, x0, atol=1e-10, rtol=1e-10)


def test_nodes_are_uniform_without_a_shift_and_move_towards_noise_with_one():
    assert time_nodes(4).tolist() == [1, 0.75, 0.5, 0.25, 0]
    # By hand, t -> 1.5 t / (1 + .5 t): 1.125/1.375, .75/1.25, .375/1.125
    assert time_nodes(4, 1.5).tolist() == pytest.approx([1, 0.818182, 0.6, 0.333333, 0], abs=1e-6)


@pytest.mark.parametrize(("steps", "shift"), [(0, 1.0), (4, 0.0), (4, -1.0)])
def test_nodes_refuse_what_is_no_trajectory(steps, shift):
    with pytest.raises(ValueError, match=r"trajectory|shift"):
        time_nodes(steps, shift)


@pytest.mark.parametrize("exits", [[3, 2, 1, 0], [3, 3, 0, 0], [0, 0, 0, 0], [2, 2, 2, 2]])
def test_each_row_arrives_where_its_exit_step_starts(exits):
    process, nodes = flow_matching(), time_nodes(4, 1.5)
    denoise = denoiser(PredictionType.FLOW, process)
    noise = torch.randn(4, 4, 4, generator=torch.Generator().manual_seed(1))
    states = [step.x_t for step in roll_out(denoise, noise, nodes, process)]
    before = noise.clone()
    found = roll_to(denoise, noise, torch.tensor(exits), nodes, process)
    torch.testing.assert_close(found, torch.stack([states[exit][row] for row, exit in enumerate(exits)]))
    assert torch.equal(noise, before)


def test_no_network_call_is_spent_on_rows_that_have_arrived():
    rows = []

    def denoise(x, t):
        rows.append(len(x))
        return Prediction(x, x)

    exits = draw_exits(8, 4, torch.Generator().manual_seed(0), stratified=True)
    roll_to(denoise, torch.zeros(8, 2), exits, time_nodes(4), flow_matching())
    assert rows == [6, 4, 2]  # 1.5 evaluations a row; rolling everything out would cost 4


def test_rows_out_of_order_are_refused():
    with pytest.raises(ValueError, match="must not rise"):
        roll_to(lambda x, t: Prediction(x, x), torch.zeros(2, 1), torch.tensor([0, 1]), time_nodes(2), flow_matching())


def test_stratified_exits_train_every_step_in_every_batch():
    exits = draw_exits(10, 4, torch.Generator().manual_seed(0), stratified=True)
    assert sorted(torch.bincount(exits, minlength=4).tolist()) == [2, 2, 3, 3]


@pytest.mark.parametrize("stratified", [True, False])
def test_exits_are_uniform_over_the_steps(stratified):
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat([draw_exits(3, 4, generator, stratified=stratified) for _ in range(2000)])
    assert torch.bincount(drawn, minlength=4).div(len(drawn)).tolist() == pytest.approx([0.25] * 4, abs=0.03)


def test_a_stochastic_landing_keeps_the_noise_level_and_a_share_of_its_own_noise():
    """By hand at s = .4 with eta = .6: .6 x0 + .4 (.6 own + .8 fresh), and .36 + .64 = 1."""
    x0, own, fresh = torch.randn(3, 2, 5, dtype=torch.float64)
    found = move(Prediction(x0, own), torch.tensor([0.4, 0.4]), flow_matching(), eta=0.6, fresh=fresh)
    torch.testing.assert_close(found, 0.6 * x0 + 0.24 * own + 0.32 * fresh)


def test_a_stochastic_roll_out_uses_each_steps_own_noise():
    process, nodes = flow_matching(), time_nodes(3)
    denoise = denoiser(PredictionType.FLOW, process)
    noise, *fresh = torch.randn(4, 2, 4, 4)
    x_1 = move(denoise(noise, nodes[0].expand(2)), nodes[1].expand(2), process, eta=0.5, fresh=fresh[0])
    x_2 = move(denoise(x_1, nodes[1].expand(2)), nodes[2].expand(2), process, eta=0.5, fresh=fresh[1])
    found = roll_to(denoise, noise, torch.tensor([2, 1]), nodes, process, eta=0.5, fresh=fresh)
    torch.testing.assert_close(found, torch.stack([x_2[0], x_1[1]]))
