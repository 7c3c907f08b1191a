"""The network calls of the published TDM script's iteration, on networks of ours: what our loop is timed against.

Re-created from a description of its calls, not from its code: a full roll-out without gradient (K forwards), the
critic's step (the student again, a teacher whose output is not used, the critic with backward), the student's step (the
student again with gradient, teacher with and without prompt, critic): 11 forwards and 2 backwards for K = 4, 15
forward-equivalents a row.  Three whole networks, all weights of two of them trained.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tdm_core.backbones.trainable import Conditioning
from tdm_core.diffusion.noise import flow_matching
from tdm_core.diffusion.objectives import tdm
from tdm_core.diffusion.prediction import Prediction, PredictionType, guide, predict
from tdm_core.diffusion.trajectory import move, time_nodes

HUBER_C, SNR_CAP, MARGIN, LATEST = 1e-3, 5.0, 0.02, 0.98


class OfficialLoop:
    """One iteration a call of ``step``; counts network calls and backwards in rows."""

    def __init__(self, network: nn.Module, *, steps: int, guidance_scale: float, uncond: Conditioning) -> None:
        """Copies ``network`` three times; ``uncond`` is the empty prompt's conditioning, [1, ...]."""
        self.student, self.fake = (copy.deepcopy(network).requires_grad_(True) for _ in range(2))
        self.teacher = copy.deepcopy(network).requires_grad_(False)
        self.optimisers = {
            trained: torch.optim.AdamW(trained.parameters(), lr=lr, betas=(0.0, 0.95), weight_decay=1e-2, fused=True)
            for trained, lr in ((self.student, 4e-6), (self.fake, 2e-5))
        }
        self.nodes, self.guidance_scale, self.uncond = time_nodes(steps), guidance_scale, uncond
        self.process, self.generator = flow_matching(), torch.Generator().manual_seed(0)

    def step(self, noise: Tensor, told: Conditioning) -> None:
        """Both updates from start noise [B, ...]."""
        states = self._roll_out(noise, told)
        self._update(self.fake, self._fake_loss(states, told), clip=None)
        self._update(self.student, self._student_loss(states, told), clip=1.0)

    @torch.no_grad()
    def _roll_out(self, noise: Tensor, told: Conditioning) -> Tensor:
        """The state before each step, [K, B, ...]; the last step's result is made and dropped."""
        states, x_t = [], noise
        for t, s in zip(self.nodes[:-1], self.nodes[1:], strict=True):
            states.append(x_t)
            prediction = self._see(self.student, x_t, t.expand(len(x_t)), told)
            x_t = move(prediction, s.expand(len(x_t)), self.process)
        return torch.stack(states)

    def _fake_loss(self, states: Tensor, told: Conditioning) -> Tensor:
        with torch.no_grad():
            student, x_tau, noise, tau = self._query(states, told)
            self._see(self.teacher, x_tau, tau, told)
        fake = self._see(self.fake, x_tau, tau, told)
        weight = tdm.snr_weight(tdm.SnrWeight.MIN_SNR, PredictionType.FLOW, tau, self.process, cap=SNR_CAP)
        weight = weight * tdm.importance_weight(x_tau, student.x0, noise, tau, self.process).to(weight)
        return tdm.x0_fake_loss(fake, student.x0, weight).mean()

    def _student_loss(self, states: Tensor, told: Conditioning) -> Tensor:
        student, x_tau, _, tau = self._query(states, told)
        with torch.no_grad():
            cond = self._see(self.teacher, x_tau, tau, told).x0
            uncond = self._see(self.teacher, x_tau, tau, self.uncond.repeat(len(x_tau))).x0
            fake = self._see(self.fake, x_tau, tau, told).x0
        teacher = guide(cond, uncond, self.guidance_scale)
        losses = tdm.student_loss(student.x0, teacher - fake, penalty=tdm.Penalty.HUBER_ELEMENTWISE, huber_c=HUBER_C)
        return (losses / tdm.normaliser(student.x0, teacher, floor=1e-6)).mean()

    def _query(self, states: Tensor, told: Conditioning) -> tuple[Prediction, Tensor, Tensor, Tensor]:
        """The student at a step drawn for each row, and its landing renoised inside the segment."""
        rows = states.shape[1]
        exits = torch.randint(len(states), (rows,), generator=self.generator)
        t, s = self.nodes[exits], self.nodes[exits + 1]
        student = self._see(self.student, states[exits, torch.arange(rows)], t, told)
        noise = torch.randn(states.shape[1:], generator=self.generator)
        u = torch.rand(rows, generator=self.generator, dtype=torch.float64)
        tau = torch.lerp(s + MARGIN, t.clamp(max=LATEST), u)
        x_s = move(student.detach(), s, self.process)
        return student, self.process.renoise(x_s, noise, s=s, t=tau), noise, tau

    def _see(self, network: nn.Module, x_t: Tensor, t: Tensor, told: Conditioning) -> Prediction:
        timestep = self.process.model_time(t).float()
        output = network(x_t, timestep=timestep, **told.tensors, return_dict=False)[0]
        return predict(PredictionType.FLOW, output, x_t, t, self.process)

    def _update(self, network: nn.Module, loss: Tensor, *, clip: float | None) -> None:
        optimiser = self.optimisers[network]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(network.parameters(), clip)
        optimiser.step()


@contextmanager
def forward_equivalents(*networks: nn.Module) -> Iterator[list[int]]:
    """Rows evaluated inside, as the only entry of a list; a call that keeps a graph for its backward counts thrice."""
    total = [0]

    def note(_: nn.Module, positional: tuple[Tensor, ...], __: object) -> None:
        total[0] += len(positional[0]) * (3 if torch.is_grad_enabled() else 1)

    handles = [network.register_forward_hook(note) for network in networks]
    try:
        yield total
    finally:
        for handle in handles:
            handle.remove()
