"""DMD2 without its GAN (arXiv:2405.14867), with backward simulation, as pure functions of tensors: a rival of TDM.

The student samples as a consistency model does: each step predicts x0 and noises it *afresh* to the next time, and its
training inputs come from its own roll-out (backward simulation).  Its x0 is diffused to any time up to pure noise, and
there the guided teacher pulls it and the fake score pushes it.  Where TDM matches the noisy landing inside its own
segment, DMD2 matches the clean x0 everywhere; the roll-out is `trajectory.roll_to` with ``eta = 0``.

Departures: no GAN (it needs pictures), and the critic's loss is that of the network's own output, so that one code
serves epsilon, v and flow networks.  All x0 and noise: [B, ...]; all losses per sample, [B].
"""

from __future__ import annotations

from torch import Tensor

from tdm_core.diffusion.noise import NoiseProcess
from tdm_core.diffusion.prediction import Prediction, PredictionType, network_output


def fake_loss(
    fake: Prediction, x0_student: Tensor, noise: Tensor, kind: PredictionType, tau: Tensor, process: NoiseProcess
) -> Tensor:
    """Denoising of the student's x0, diffused with ``noise`` to tau [B]: what any diffusion model is trained by.

    Source: arXiv:2405.14867, section 4.2 (two time scales: several of these updates per student update).
    """
    true = network_output(kind, Prediction(x0_student.detach(), noise), tau, process)
    return (network_output(kind, fake, tau, process) - true).square().flatten(1).mean(dim=1)


def student_loss(x0_student: Tensor, x0_teacher: Tensor, x0_fake: Tensor) -> Tensor:
    """Half the squared distance to ``sg(x0 + (teacher - fake) / normaliser)``: its gradient is DMD's.

    The normaliser is the mean ``|student - teacher|`` of each sample, as published.

    Source: arXiv:2405.14867, Eq. 1 and 2 (the distribution matching gradient), with DMD's weight (arXiv:2311.18828,
    Eq. 8).
    """
    distance = (x0_student - x0_teacher).detach().abs().flatten(1).mean(dim=1).clamp(min=1e-5)
    way = (x0_teacher - x0_fake) / distance.view(-1, *(1,) * (x0_student.ndim - 1))
    difference = x0_student - (x0_student + way).detach()
    return 0.5 * difference.square().flatten(1).mean(dim=1)
