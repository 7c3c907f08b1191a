"""Lower precision where a CPU has units for it (AMX, AVX512-BF16); elsewhere PyTorch leaves everything as it is.

A mini's weights, gradients and sums stay float32. What pays differs (docs/log.md): in a transformer of small matrices
the products alone, in convolutions everything that autocast takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

Precision = Literal["fp32", "bf16"]


@contextmanager
def matrix_products(precision: Precision) -> Iterator[None]:
    """Multiply float32 matrices in bfloat16, sums in float32; both passes belong inside.

    Attention is then computed plainly: the fused kernel's tiles of a few tokens are slow in bfloat16.
    """
    if precision == "fp32":
        yield
        return
    setting: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]  # its stub lags behind
    before = setting.fp32_precision
    setting.fp32_precision = precision
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        setting.fp32_precision = before


def convolutions(precision: Precision) -> AbstractContextManager[object]:
    """Autocast of a forward pass."""
    return torch.autocast("cpu", dtype=torch.bfloat16) if precision == "bf16" else nullcontext()
