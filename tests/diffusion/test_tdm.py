"""The objective's pieces against numbers derived by hand, and against the defects of the published script."""

import pytest
import torch
from diffusers import DDPMScheduler
from torch.distributions import Normal

from tdm_core.diffusion.noise import flow_matching, variance_preserving
from tdm_core.diffusion.objectives import tdm
from tdm_core.diffusion.prediction import Prediction, PredictionType, predict
from tdm_core.diffusion.trajectory import move

FLOW, VP = flow_matching(), variance_preserving(DDPMScheduler().alphas_cumprod)


PENALTIES = pytest.mark.parametrize("penalty", tdm.Penalty)


@pytest.mark.parametrize("shape", [(2, 4, 8, 8), (2, 16, 3, 8, 8)], ids=["image", "video"])
@PENALTIES
def test_student_rests_where_fake_and_teacher_agree(shape, penalty):
    x0_student, x0_teacher = torch.randn(shape, requires_grad=True), torch.randn(shape)
    (way,) = tdm.directions(x0_teacher, None, x0_teacher.clone(), guidance_scale=1.0, decoupled=False)
    losses = tdm.student_loss(x0_student, way, penalty=penalty)
    (losses / tdm.normaliser(x0_student, x0_teacher, floor=0.05)).sum().backward()
    assert torch.count_nonzero(x0_student.grad) == 0


WAY = torch.tensor([[3.0, 0, 4, 0]])
BY_HAND = {  # |d| = 5, c = .5 sqrt(4) = 1; per element c = .5; squared (9 + 16) / (2 * 4): losses and gradients
    tdm.Penalty.HUBER: (26**0.5 - 1, -WAY / 26**0.5),
    tdm.Penalty.HUBER_ELEMENTWISE: (
        (9.25**0.5 + 16.25**0.5 - 1) / 4,
        -torch.tensor([[3 / 9.25**0.5, 0, 4 / 16.25**0.5, 0]]) / 4,
    ),
    tdm.Penalty.SQUARED: (25 / 8, -WAY / 4),
}


@PENALTIES
def test_student_loss_by_hand(penalty):
    student = torch.ones(1, 4, requires_grad=True)
    loss = tdm.student_loss(student, WAY, penalty=penalty, huber_c=0.5)
    loss.sum().backward()
    expected_loss, expected_gradient = BY_HAND[penalty]
    assert loss.item() == pytest.approx(expected_loss)
    torch.testing.assert_close(student.grad, expected_gradient)


def test_normaliser_is_taken_per_sample_and_never_below_its_floor():
    student, teacher = torch.zeros(2, 2, requires_grad=True), torch.tensor([[2.0, 4.0], [0.001, 0.0]])
    divisor = tdm.normaliser(student, teacher, floor=0.1)
    assert divisor.tolist() == pytest.approx([3.0, 0.1]) and not divisor.requires_grad


def test_the_sample_norm_keeps_the_direction_and_the_elementwise_one_does_not():
    """The published script's elementwise form pulls on every element with equal force."""
    way, ratios = torch.tensor([[10.0, 1.0]]), {}
    for penalty in tdm.Penalty:
        student = torch.zeros(1, 2, requires_grad=True)
        tdm.student_loss(student, way, penalty=penalty, huber_c=1e-6).sum().backward()
        ratios[penalty] = (student.grad[0, 0] / student.grad[0, 1]).item()
    assert ratios == pytest.approx(
        {tdm.Penalty.HUBER: 10, tdm.Penalty.HUBER_ELEMENTWISE: 1, tdm.Penalty.SQUARED: 10}, rel=1e-3
    )


def test_no_gradient_flows_along_the_direction():
    way, student = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    tdm.student_loss(student, way, penalty=tdm.Penalty.HUBER).sum().backward()
    assert student.grad is not None and way.grad is None


def test_the_decoupled_directions_add_up_to_the_joint_one():
    cond, uncond, fake = torch.randn(3, 2, 5, dtype=torch.float64)
    (joint,) = tdm.directions(cond, uncond, fake, guidance_scale=4.5, decoupled=False)
    kl, guidance = tdm.directions(cond, uncond, fake, guidance_scale=4.5, decoupled=True)
    torch.testing.assert_close(kl + guidance, joint)
    torch.testing.assert_close(guidance, 3.5 * (cond - uncond))


def test_the_landing_moves_as_x0_does_scaled_by_its_step():
    """d x_s / d x0 at given x_t is alpha_s - alpha_t sigma_s / sigma_t; .75 to .25: .75 - .25 * .25 / .75 = 2/3."""
    x_t, t, s = torch.randn(1, 3, dtype=torch.float64), torch.tensor([0.75]), torch.tensor([0.25])
    output, way = torch.randn(1, 3, dtype=torch.float64, requires_grad=True), torch.randn(1, 3, dtype=torch.float64)
    prediction = predict(PredictionType.FLOW, output, x_t, t, FLOW)
    gradients = []
    for point in (prediction.x0, move(prediction, s, FLOW)):
        loss = tdm.student_loss(point, way, penalty=tdm.Penalty.SQUARED).sum()
        gradients += torch.autograd.grad(loss, output, retain_graph=True)
    torch.testing.assert_close(gradients[1], gradients[0] * 2 / 3)


def test_ambient_loss_of_a_clean_landing_is_the_flow_matching_loss():
    generator = torch.Generator().manual_seed(0)
    x_0, noise, output = torch.randn(3, 5, 2, 4, dtype=torch.float64, generator=generator)
    tau = torch.tensor([0.1, 0.3, 0.5, 0.6, 0.65])
    x_tau = FLOW.add_noise(x_0, noise, tau)
    fake = predict(PredictionType.FLOW, output, x_tau, tau, FLOW)
    losses = tdm.ambient_fake_loss(fake, noise, torch.zeros(5), tau, FLOW, largest_weight=100.0)
    torch.testing.assert_close(losses, (output - (noise - x_0)).square().flatten(1).mean(1))


def test_ambient_loss_is_the_prototypes_form():
    """(b/tau) v against (noise - (b/tau) x_tau) / (1 - tau), weight min(1, ((1 - tau) / .3)^2): minis.md."""
    generator = torch.Generator().manual_seed(0)
    x_s, noise, v = torch.randn(3, 4, 6, dtype=torch.float64, generator=generator)
    s, tau = torch.tensor([0.2, 0.4, 0.6, 0.8]), torch.tensor([0.4, 0.65, 0.75, 0.9])
    _, b = FLOW.renoise_coefficients(s, tau)
    x_tau = FLOW.renoise(x_s, noise, s=s, t=tau)
    ratio, rest = (b / tau)[:, None], (1 - tau.double())[:, None]
    expected = (ratio * v - (noise - ratio * x_tau) / rest).square().mean(1) * ((1 - tau) / 0.3).square().clamp(max=1)
    fake = predict(PredictionType.FLOW, v, x_tau, tau, FLOW)
    found = tdm.ambient_fake_loss(fake, noise, s, tau, FLOW, largest_weight=1 / 0.3**2)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)


def test_the_x0_loss_is_weighted_by_the_capped_snr():
    """SNR at t = .5 is 1, at t = .1 it is 81 and capped."""
    tau, fake = torch.tensor([0.5, 0.1]), Prediction(torch.tensor([[1.0], [1.0]]), torch.zeros(2, 1))
    weight = tdm.snr_weight(tdm.SnrWeight.MIN_SNR, PredictionType.FLOW, tau, FLOW, cap=5.0)
    assert tdm.x0_fake_loss(fake, torch.tensor([[3.0], [3.0]]), weight).tolist() == pytest.approx([4.0, 20.0])


@pytest.mark.parametrize("kind", PredictionType)
@pytest.mark.parametrize("process", [FLOW, VP], ids=["flow", "vp"])
def test_the_native_weight_turns_x0_errors_into_output_errors(kind, process):
    tau = torch.tensor([0.1, 0.5, 0.9])
    x_tau, output, target = torch.randn(3, 3, 7, dtype=torch.float64)
    fake, truth = (predict(kind, each, x_tau, tau, process) for each in (output, target))
    weight = tdm.snr_weight(tdm.SnrWeight.NATIVE, kind, tau, process, cap=5.0)
    torch.testing.assert_close(tdm.x0_fake_loss(fake, truth.x0, weight), (output - target).square().mean(1))


def test_no_weight_is_one():
    weight = tdm.snr_weight(tdm.SnrWeight.NONE, PredictionType.FLOW, torch.tensor([0.1, 0.9]), FLOW, cap=5.0)
    assert weight.tolist() == [1, 1]


@pytest.mark.parametrize("process", [FLOW, VP], ids=["flow", "vp"])
def test_the_importance_weight_is_the_ratio_of_densities_tempered(process):
    """exact log ratio = d log(beta / sigma) + d log(tempered weight), with the densities of torch.distributions."""
    size, generator = 5, torch.Generator().manual_seed(0)
    x0, ehat, noise = torch.randn(3, 2, size, dtype=torch.float64, generator=generator)
    s, tau = torch.tensor([0.4, 0.5]), torch.tensor([0.6, 0.8])
    x_s = move(Prediction(x0, ehat), s, process)
    x_tau = process.renoise(x_s, noise, s=s, t=tau)
    scale, beta = (each[:, None] for each in process.renoise_coefficients(s, tau))
    alpha, sigma = process.alpha(tau)[:, None], process.sigma(tau)[:, None]
    exact = (Normal(alpha * x0, sigma).log_prob(x_tau) - Normal(scale * x_s, beta).log_prob(x_tau)).sum(1)
    tempered = tdm.importance_weight(x_tau, x0, noise, tau, process)
    torch.testing.assert_close(size * ((beta / sigma).log()[:, 0] + tempered.log()), exact)


def test_the_importance_weight_is_inert_at_the_size_of_a_picture():
    """Why what matters is where x_tau is drawn."""
    x0, ehat, noise = torch.randn(3, 4, 16384, generator=torch.Generator().manual_seed(0))
    s, tau = torch.full((4,), 0.5), torch.full((4,), 0.7)
    x_tau = FLOW.renoise(move(Prediction(x0, ehat), s, FLOW), noise, s=s, t=tau)
    weight = tdm.importance_weight(x_tau, x0, noise, tau, FLOW)
    assert 0.97 < weight.min() <= weight.max() < 1.03


def test_importance_weights_are_clipped():
    x0, noise = torch.zeros(2, 3), torch.tensor([[9.0] * 3, [0.0] * 3])
    x_tau = torch.tensor([[0.0] * 3, [9.0] * 3])
    assert tdm.importance_weight(x_tau, x0, noise, torch.tensor([0.5, 0.5]), FLOW).tolist() == pytest.approx([20, 0.05])


@pytest.mark.parametrize("kind", PredictionType)
def test_the_teacher_regulariser_is_the_distance_of_outputs(kind):
    x_tau, output, other = torch.randn(3, 2, 6, dtype=torch.float64)
    tau = torch.tensor([0.3, 0.8])
    fake, teacher = (predict(kind, each, x_tau, tau, FLOW) for each in (output, other))
    found = tdm.teacher_regulariser(fake, teacher, kind, tau, FLOW)
    torch.testing.assert_close(found, (output - other).square().mean(1))
