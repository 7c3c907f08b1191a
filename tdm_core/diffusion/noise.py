"""The one home of what alpha, sigma and time mean: a noise process is two coefficients of time.

``x_t = alpha(t) x_0 + sigma(t) noise``.  Time runs from 0 (clean) to 1 (pure noise) for every process, so nodes,
segments and margins are written once; ``model_time`` says what the network is fed.  Coefficients are computed in
float64 and cast only where they meet a state: half precision in these formulas costs up to 6 % near a segment's start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def expand(coefficient: Tensor, like: Tensor) -> Tensor:
    """Shape and cast a coefficient [B] so that it multiplies states [B, ...]."""
    return coefficient.to(like).view(-1, *(1,) * (like.ndim - 1))


@dataclass(frozen=True, kw_only=True)
class NoiseProcess:
    """A Gaussian process given by its two coefficients; everything else follows from them.

    Attributes:
        alpha, sigma: times in [0, 1] -> coefficients, both [B], float64.
        model_time: times in [0, 1] -> the ``timestep`` argument of the network, [B].
    """

    alpha: Callable[[Tensor], Tensor]
    sigma: Callable[[Tensor], Tensor]
    model_time: Callable[[Tensor], Tensor]

    def snr(self, t: Tensor) -> Tensor:
        """Signal-to-noise ratio ``alpha^2 / sigma^2``, [B]."""
        return (self.alpha(t) / self.sigma(t)) ** 2

    def add_noise(self, x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """States at times t [B] from clean samples and standard normal noise, both [B, ...]."""
        return expand(self.alpha(t), x_0) * x_0 + expand(self.sigma(t), x_0) * noise

    def renoise_coefficients(self, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and beta of ``x_t = scale x_s + beta noise``, for times s <= t, all [B].

        ``scale = alpha_t / alpha_s``, ``beta^2 = sigma_t^2 - (scale sigma_s)^2``.

        Raises:
            ValueError: if some t is less noisy than its s.
        """
        scale = self.alpha(t) / self.alpha(s)
        variance = self.sigma(t) ** 2 - (scale * self.sigma(s)) ** 2
        if (variance < 0).any():
            raise ValueError(f"renoise needs t noisier than s, got s={s.tolist()}, t={t.tolist()}")
        return scale, variance.sqrt()

    def renoise(self, x_s: Tensor, noise: Tensor, *, s: Tensor, t: Tensor) -> Tensor:
        """Diffuse states [B, ...] forward from times s to the noisier times t, both [B].

        Source: the forward kernel of TDM (arXiv:2503.06674, the law of x_tau given x_{t_i}); it holds for any
        Gaussian process.
        """
        scale, beta = self.renoise_coefficients(s, t)
        return expand(scale, x_s) * x_s + expand(beta, x_s) * noise


def flow_matching(num_train_timesteps: int = 1000) -> NoiseProcess:
    """``alpha = 1 - t``, ``sigma = t``; the network is fed ``num_train_timesteps * t``, as in SD3."""
    return NoiseProcess(
        alpha=lambda t: 1 - t.double(),
        sigma=lambda t: t.double(),
        model_time=lambda t: t.double() * num_train_timesteps,
    )


def variance_preserving(alphas_cumprod: Sequence[float] | Tensor) -> NoiseProcess:
    """``alpha = sqrt(abar)``, ``sigma = sqrt(1 - abar)`` from a trained table of N entries.

    Time t is ``(index + 1) / N``: entry ``index`` of the table, and t = 0 is the clean sample.  K uniform steps are
    then the ``trailing`` timesteps of diffusers (999, 749, 499, 249 for K = 4).  Between entries abar is interpolated
    linearly, which also holds for a table that ends at zero signal.
    """
    trained = torch.as_tensor(alphas_cumprod, dtype=torch.float64)
    table = torch.cat([torch.ones(1, dtype=torch.float64, device=trained.device), trained])
    last = len(trained)

    def abar(t: Tensor) -> Tensor:
        position = t.double() * last
        below = position.floor().clamp(0, last - 1).long()
        entries = table.to(t.device)
        return torch.lerp(entries[below], entries[below + 1], position - below)

    return NoiseProcess(
        alpha=lambda t: abar(t).sqrt(),
        sigma=lambda t: (1 - abar(t)).sqrt(),
        model_time=lambda t: t.double() * last - 1,
    )
