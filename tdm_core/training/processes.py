"""Data parallel training: which rows are whose, and sums over all processes.

The base is not wrapped.  Two adapters on one base take turns, which DistributedDataParallel does not survive (its first
gradient stays unreduced, then it raises); one flat all-reduce of the active role's LoRA gradients is simpler and does
not depend on the shape of the graph.

All processes draw the same random numbers for the whole batch and each keeps every ``count``-th row, so a student does
not depend on their number but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed
from accelerate import PartialState
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Processes:
    """This process among all."""

    rank: int = 0
    count: int = 1

    @classmethod
    def launched(cls, *, cpu: bool) -> Processes:
        """What ``accelerate launch`` started; joins the group, or is alone where there is none."""
        state = PartialState(cpu=cpu)
        return cls(rank=state.process_index, count=state.num_processes)

    @property
    def is_main(self) -> bool:
        """Whether this one writes log, checkpoints, previews and the student."""
        return self.rank == 0

    @property
    def rows(self) -> slice:
        """This process's rows of the batch: spread over it, so that long and short roll-outs fall on all alike."""
        return slice(self.rank, None, self.count)

    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors of equal type by their sums over all processes, in one message."""
        if self.count == 1:
            return
        own = list(tensors)
        flat = torch.cat([tensor.flatten() for tensor in own])
        torch.distributed.all_reduce(flat)
        for tensor, total in zip(own, flat.split([tensor.numel() for tensor in own]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether the flag is up in some process; the same answer in all, so that they stop together."""
        if self.count == 1:
            return flag
        seen = torch.tensor(float(flag), device=device)
        self.add_up([seen])
        return bool(seen)

    def agree(self, number: int, device: torch.device) -> bool:
        """Whether the number is the same in all processes."""
        total = torch.tensor(float(number), device=device)
        self.add_up([total])
        return float(total) == number * self.count

    def spread(self, tensors: Sequence[Tensor]) -> None:
        """Give all processes the main one's values."""
        if self.count > 1:
            for tensor in tensors:
                torch.distributed.broadcast(tensor, src=0)

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """What is inside is done by the main process, and by the others when it is done."""
        if not self.is_main:
            torch.distributed.barrier()
        yield
        if self.is_main and self.count > 1:
            torch.distributed.barrier()

    def leave(self) -> None:
        """Wait for the others and leave the group."""
        if self.count > 1:
            torch.distributed.barrier()
            torch.distributed.destroy_process_group()


ALONE = Processes()
