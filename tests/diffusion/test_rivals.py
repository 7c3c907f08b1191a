"""LCM, DMD2 and DPM-Solver++ against what is known exactly: a Gaussian world, autograd in float64, and diffusers."""

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

from tdm_core.diffusion.noise import flow_matching, variance_preserving
from tdm_core.diffusion.objectives import dmd2, lcm, tdm
from tdm_core.diffusion.prediction import Prediction, PredictionType, predict
from tdm_core.diffusion.solvers import dpm_solver
from tdm_core.diffusion.trajectory import move, roll_out, time_nodes

FLOW = flow_matching()
BETAS = torch.linspace(1e-4**0.5, 0.02**0.5, 1000, dtype=torch.float64) ** 2
VP = variance_preserving((1 - BETAS).cumprod(0))
VARIANCE = 0.25


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def drawn(generator, *shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def deviation(t, process=FLOW):
    return (process.alpha(t) ** 2 * VARIANCE + process.sigma(t) ** 2).sqrt()[:, None]


def teacher(x, t, process=FLOW):
    """The exact denoiser of N(0, VARIANCE)."""
    alpha, sigma = process.alpha(t)[:, None], process.sigma(t)[:, None]
    x0 = alpha * VARIANCE / deviation(t, process) ** 2 * x
    return Prediction(x0, (x - alpha * x0) / sigma)


def consistent(x, t):
    """Where the exact probability flow leads from x: the perfect consistency function."""
    return VARIANCE**0.5 / deviation(t) * x


# LCM


def test_neighbours_are_neighbours_and_every_pair_is_drawn():
    nodes = time_nodes(50, 1.5)
    t, s = lcm.neighbours(torch.linspace(0, 1, 501, dtype=torch.float64), nodes)
    assert set(zip(t.tolist(), s.tolist(), strict=True)) == set(
        zip(nodes[:-1].tolist(), nodes[1:].tolist(), strict=True)
    )


def consistency_error(steps, generator):
    nodes = time_nodes(steps)
    t, s = lcm.neighbours(torch.rand(4000, generator=generator, dtype=torch.float64) * (1 - 1 / steps), nodes)
    x_t = deviation(t) * drawn(generator, 4000, 1)
    x_s = move(teacher(x_t, t), s, FLOW)
    return lcm.consistency_loss(consistent(x_t, t), consistent(x_s, s), huber_c=1e-9).mean().item()


def test_the_perfect_consistency_function_is_where_the_loss_goes_to_zero(generator):
    """The rest is the teacher's solver error, of second order in a step."""
    coarse, fine = (consistency_error(steps, generator) for steps in (25, 50))
    assert fine < 5e-4
    assert coarse / fine == pytest.approx(4, rel=0.35)


def test_consistency_gradient_is_the_derivative_of_the_formula(generator):
    student, target = drawn(generator, 4, 6).requires_grad_(), drawn(generator, 4, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: lcm.consistency_loss(x, target.detach(), huber_c=0.1), student)
    lcm.consistency_loss(student, target).sum().backward()
    assert target.grad is None
    difference = (student - target).detach()
    torch.testing.assert_close(student.grad, difference / (difference.square() + 1e-6).sqrt() / 6)


# DMD2


def test_the_student_rests_where_fake_and_teacher_agree(generator):
    student, true = drawn(generator, 4, 3, 2).requires_grad_(), drawn(generator, 4, 3, 2)
    dmd2.student_loss(student, true, true).sum().backward()
    assert torch.count_nonzero(student.grad) == 0


def test_student_gradient_is_the_published_one(generator):
    student, true, fake = drawn(generator, 4, 6).requires_grad_(), drawn(generator, 4, 6), drawn(generator, 4, 6)
    dmd2.student_loss(student, true, fake).sum().backward()
    normaliser = (student - true).detach().abs().mean(dim=1, keepdim=True)
    torch.testing.assert_close(student.grad, (fake - true) / normaliser / 6)


@pytest.mark.parametrize("process", [FLOW, VP], ids=["flow", "vp"])
@pytest.mark.parametrize("kind", list(PredictionType))
def test_the_best_critic_has_the_score_of_the_diffused_x0(process, kind, generator):
    """Of all linear critics, the one with the least loss is the exact denoiser."""
    tau, x0, noise = torch.full((200_000,), 0.6, dtype=torch.float64), drawn(generator, 200_000, 1), None
    x0, noise = VARIANCE**0.5 * x0, drawn(generator, 200_000, 1)
    x_tau = process.add_noise(x0, noise, tau)
    slope = torch.zeros((), dtype=torch.float64, requires_grad=True)
    loss = dmd2.fake_loss(predict(kind, slope * x_tau, x_tau, tau, process), x0, noise, kind, tau, process).mean()
    (gradient,) = torch.autograd.grad(loss, slope, create_graph=True)
    (curvature,) = torch.autograd.grad(gradient, slope)
    best = predict(kind, -(gradient / curvature).detach() * x_tau[:5], x_tau[:5], tau[:5], process)
    torch.testing.assert_close(best.x0, teacher(x_tau[:5], tau[:5], process).x0, atol=0.01, rtol=0.02)


def test_the_critics_loss_is_tdms_at_a_landing_at_zero(generator):
    """Where nothing noisy is left, the two methods ask the same of the critic."""
    tau = torch.rand(16, generator=generator, dtype=torch.float64) * 0.6 + 0.1
    x0, noise = drawn(generator, 16, 5), drawn(generator, 16, 5)
    s = torch.zeros_like(tau)
    x_tau = FLOW.renoise(x0, noise, s=s, t=tau)
    fake = predict(PredictionType.FLOW, drawn(generator, 16, 5), x_tau, tau, FLOW)
    ours = tdm.ambient_fake_loss(fake, noise, s, tau, FLOW, largest_weight=1e9)
    torch.testing.assert_close(dmd2.fake_loss(fake, x0, noise, PredictionType.FLOW, tau, FLOW), ours)


# DPM-Solver++ and the stochastic sampler of both rivals


@pytest.mark.parametrize("steps", [2, 4, 7])
def test_dpm_solver_is_diffusers_own(steps, generator):
    noise = drawn(generator, 3, 2, 4, 4)
    scheduler = DPMSolverMultistepScheduler(beta_schedule="scaled_linear", beta_start=1e-4, beta_end=0.02)
    scheduler.set_timesteps(steps)
    nodes = torch.tensor([*(t + 1 for t in scheduler.timesteps.tolist()), 0], dtype=torch.float64) / 1000
    x = noise
    for t in scheduler.timesteps:
        x = scheduler.step(0.3 * torch.tanh(x), t, x).prev_sample

    def denoise(x_t, t):
        return predict(PredictionType.EPSILON, 0.3 * torch.tanh(x_t), x_t, t, VP)

    torch.testing.assert_close(dpm_solver(denoise, noise, nodes, VP), x, atol=2e-4, rtol=1e-3)


def exact_error(sample, steps, generator):
    noise = drawn(generator, 500, 1)
    nodes = time_nodes(steps)
    found = sample(lambda x, t: teacher(x, t), noise, nodes)
    return (found - consistent(noise, torch.ones(500, dtype=torch.float64))).abs().mean().item()


def test_dpm_solver_is_closer_than_ddim_and_its_error_falls_faster_than_the_step(generator):
    def ddim(denoise, noise, nodes):
        return list(roll_out(denoise, noise, nodes, FLOW))[-1].x_s

    def dpm(denoise, noise, nodes):
        return dpm_solver(denoise, noise, nodes, FLOW)

    assert exact_error(dpm, 8, generator) < exact_error(ddim, 8, generator) / 2
    assert exact_error(dpm, 40, generator) < exact_error(dpm, 20, generator) / 2


def test_a_perfect_consistency_function_sampled_with_fresh_noise_gives_the_datas_law(generator):
    noise, fresh = drawn(generator, 100_000, 1), [drawn(generator, 100_000, 1) for _ in range(4)]
    steps = roll_out(
        lambda x, t: Prediction(consistent(x, t), torch.zeros_like(x)),
        noise,
        time_nodes(4, 1.5),
        FLOW,
        eta=0.0,
        fresh=fresh,
    )
    assert list(steps)[-1].x_s.var().item() == pytest.approx(VARIANCE, rel=0.02)
