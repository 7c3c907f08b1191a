"""Too little memory, told in two lines: where the run was, and which keys make it need less."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from tdm_core.errors import TrainingError
from tdm_core.training.config import DistillConfig

ALLOCATOR_WORDS = ("can't allocate memory", "not enough memory", "ALLOC_FAILED")
"""Of the CPU's allocator and of CUDA's libraries, whose errors have no class of their own."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether something could not be allocated."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in ALLOCATOR_WORDS)


@contextmanager
def enough_memory(config: DistillConfig, where: Callable[[], str]) -> Iterator[None]:
    """Running out of memory inside is told as a `TrainingError` with the cures; ``where`` says how far the run was."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(f"{where()}: out of memory, with {_now(config)}.\n{_cure(config)}") from error


def _now(config: DistillConfig) -> str:
    run = config.run
    rows = run.micro_batch or config.optimiser.batch_size
    return (
        f"{rows} row{'s' * (rows > 1)} at once and {'' if run.gradient_checkpointing else 'no '}gradient_checkpointing"
    )


def _cure(config: DistillConfig) -> str:
    run, cures = config.run, []
    rows = run.micro_batch or config.optimiser.batch_size
    if rows > 1:
        cures.append(f"--set run.micro_batch={rows // 2}{' or less' if rows > 3 else ''}")
    if not run.gradient_checkpointing:
        cures.append("--set run.gradient_checkpointing=true")
    if cures:
        return f"Continue with --resume {' and '.join(cures)}: neither changes the student."
    return "Take a device with more memory, base.dtype=bfloat16, or a smaller base.size or lora.rank."
