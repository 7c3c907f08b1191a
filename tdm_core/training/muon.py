"""Muon for the matrices of a network: momentum, made orthogonal. (``torch.optim.Muon`` works in bfloat16 and one
matrix at a time, which a CPU without bfloat16 pays for dearly; this one takes all matrices of a shape at once.)

Checked against ``torch.optim.Muon`` and K. Jordan's https://kellerjordan.github.io/posts/muon/.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # the quintic of the reference: steep at zero, not quite 1 at its end


def orthogonalize(matrices: Tensor, steps: int = 5) -> Tensor:
    """Replace the singular values of [N, rows, columns] by values between about 0.7 and 1.2."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """For matrices, and for convolutions as matrices of a row for each channel that they make.

    The update's root mean square is 0.2, so that a rate found for Adam fits.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for shape, parameters in by_shape.items():
                largest = max(shape[0], shape[1:].numel())
                self._update(parameters, group["lr"] * 0.2 * largest**0.5, group["momentum"])

    def _update(self, parameters: list[nn.Parameter], lr: float, momentum: float) -> None:
        averages = [self.state[p].setdefault("momentum_buffer", torch.zeros_like(p)) for p in parameters]
        gradients = [p.grad for p in parameters if p.grad is not None]
        torch._foreach_lerp_(averages, gradients, 1 - momentum)
        nesterov = torch._foreach_lerp(gradients, averages, momentum)
        matrices = torch.stack(list(nesterov)).flatten(2)
        for parameter, update in zip(parameters, orthogonalize(matrices), strict=True):
            parameter.add_(update.view_as(parameter), alpha=-lr)


def muon_and_adamw(
    named: Iterable[tuple[str, nn.Parameter]], lr: float, *, weight_decay: float = 0.0
) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' attention and feed-forward; AdamW for embeddings, modulations and the network's output."""
    named = list(named)
    matrices = [p for name, p in named if _is_hidden_matrix(name, p)]
    others = [p for name, p in named if not _is_hidden_matrix(name, p)]
    return [adamw(others, lr, weight_decay=weight_decay), *([Muon(matrices, lr)] if matrices else [])]


def adamw(parameters: list[nn.Parameter], lr: float, *, weight_decay: float = 0.0) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.95), weight_decay=weight_decay, fused=True)


def _is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    inside = any(part in name for part in ("blocks.", ".layers.", ".block."))
    return inside and parameter.ndim == 2 and "norm" not in name and "relative_attention_bias" not in name
