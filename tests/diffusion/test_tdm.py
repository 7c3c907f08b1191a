"""The objective's pieces against numbers derived by hand, and against the defects of the published script."""

import pytest
import torch

from tdm_core.diffusion.noise import flow_matching
from tdm_core.diffusion.objectives import tdm
from tdm_core.diffusion.prediction import Prediction, PredictionType, predict

FLOW = flow_matching()


@pytest.mark.parametrize("shape", [(2, 4, 8, 8), (2, 16, 3, 8, 8)], ids=["image", "video"])
@pytest.mark.parametrize("huber_c", [0.00054, None])
def test_student_rests_where_fake_and_teacher_agree(shape, huber_c):
    x0_student, x0_teacher = torch.randn(shape, requires_grad=True), torch.randn(shape)
    losses = tdm.student_loss(x0_student, x0_teacher, x0_teacher.clone(), huber_c=huber_c, normaliser_floor=0.05)
    losses.sum().backward()
    assert torch.count_nonzero(x0_student.grad) == 0


def test_student_loss_by_hand():
    """d = teacher - fake = (3, 0, 4, 0), |d| = 5, c = .5 sqrt(4) = 1: sqrt(26) - 1, gradient -d / sqrt(26)."""
    student = torch.zeros(1, 4, requires_grad=True)
    teacher, fake = torch.tensor([[4.0, 1, 5, 2]]), torch.tensor([[1.0, 1, 1, 2]])
    loss = tdm.student_loss(student, teacher, fake, huber_c=0.5)
    assert loss.item() == pytest.approx(26**0.5 - 1)
    loss.sum().backward()
    torch.testing.assert_close(student.grad, torch.tensor([[-3.0, 0, -4, 0]]) / 26**0.5)


def test_squared_student_loss_by_hand():
    """(9 + 16) / (2 * 4) over the normaliser mean |student - teacher| = (4 + 1 + 5 + 2) / 4 = 3."""
    teacher, fake = torch.tensor([[4.0, 1, 5, 2]]), torch.tensor([[1.0, 1, 1, 2]])
    loss = tdm.student_loss(torch.zeros(1, 4), teacher, fake, huber_c=None, normaliser_floor=0.05)
    assert loss.item() == pytest.approx(25 / 8 / 3)


def test_normaliser_is_taken_per_sample_and_never_below_its_floor():
    teacher = torch.tensor([[2.0], [0.001]])
    losses = tdm.student_loss(torch.zeros(2, 1), teacher, teacher - 1, huber_c=None, normaliser_floor=0.1)
    assert losses.tolist() == pytest.approx([0.5 / 2, 0.5 / 0.1])


def test_huber_norm_is_taken_per_sample_not_per_element():
    """The published script sums an L1-like loss over elements, where every element pulls with equal force."""
    student = torch.zeros(1, 2, requires_grad=True)
    tdm.student_loss(student, torch.tensor([[10.0, 1.0]]), torch.zeros(1, 2), huber_c=1e-6).sum().backward()
    assert (student.grad[0, 0] / student.grad[0, 1]).item() == pytest.approx(10)


def test_no_gradient_reaches_teacher_or_fake():
    teacher, fake = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    student = torch.randn(2, 3, requires_grad=True)
    tdm.student_loss(student, teacher, fake, normaliser_floor=0.05).sum().backward()
    assert student.grad is not None and teacher.grad is None and fake.grad is None


def test_segment_times_stay_inside_margin_and_segment():
    s, end = torch.tensor([0.0, 0.6, 0.818182]), torch.tensor([0.333333, 0.818182, 1.0])
    low = tdm.segment_times(s, end, torch.zeros(3), margin=0.03, latest=0.98)
    high = tdm.segment_times(s, end, torch.ones(3), margin=0.03, latest=0.98)
    assert low.tolist() == pytest.approx([0.03, 0.63, 0.848182])
    assert high.tolist() == pytest.approx([0.333333, 0.818182, 0.98])


def test_a_margin_wider_than_the_segment_is_refused():
    with pytest.raises(ValueError, match="no time left"):
        tdm.segment_times(torch.tensor([0.9]), torch.tensor([1.0]), torch.zeros(1), margin=0.09, latest=0.98)


def test_unbiased_loss_of_a_clean_landing_is_the_flow_matching_loss():
    generator = torch.Generator().manual_seed(0)
    x_0, noise, output = torch.randn(3, 5, 2, 4, dtype=torch.float64, generator=generator)
    tau = torch.tensor([0.1, 0.3, 0.5, 0.6, 0.65])
    x_tau = FLOW.add_noise(x_0, noise, tau)
    fake = predict(PredictionType.FLOW, output, x_tau, tau, FLOW)
    losses = tdm.unbiased_fake_loss(fake, noise, torch.zeros(5), tau, FLOW, largest_weight=100.0)
    torch.testing.assert_close(losses, (output - (noise - x_0)).square().flatten(1).mean(1))


def test_unbiased_loss_is_the_prototypes_form():
    """(b/tau) v against (noise - (b/tau) x_tau) / (1 - tau), weight min(1, ((1 - tau) / .3)^2): minis.md."""
    generator = torch.Generator().manual_seed(0)
    x_s, noise, v = torch.randn(3, 4, 6, dtype=torch.float64, generator=generator)
    s, tau = torch.tensor([0.2, 0.4, 0.6, 0.8]), torch.tensor([0.4, 0.65, 0.75, 0.9])
    _, b = FLOW.renoise_coefficients(s, tau)
    x_tau = FLOW.renoise(x_s, noise, s=s, t=tau)
    ratio, rest = (b / tau)[:, None], (1 - tau.double())[:, None]
    expected = (ratio * v - (noise - ratio * x_tau) / rest).square().mean(1) * ((1 - tau) / 0.3).square().clamp(max=1)
    fake = predict(PredictionType.FLOW, v, x_tau, tau, FLOW)
    found = tdm.unbiased_fake_loss(fake, noise, s, tau, FLOW, largest_weight=1 / 0.3**2)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)


def test_published_loss_is_weighted_by_the_capped_snr():
    """SNR at t = .5 is 1, at t = .1 it is 81 and capped."""
    fake = Prediction(torch.tensor([[1.0], [1.0]]), torch.zeros(2, 1))
    losses = tdm.published_fake_loss(fake, torch.tensor([[3.0], [3.0]]), torch.tensor([0.5, 0.1]), FLOW, snr_cap=5.0)
    assert losses.tolist() == pytest.approx([4.0, 20.0])
