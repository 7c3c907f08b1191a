"""What the engine asks of a device: which one, how much room it has, how to wait for it."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tdm_core.errors import ConfigError, SamplingError

if TYPE_CHECKING:
    import torch


def choose_device(name: str) -> str:
    """What ``auto`` means on this machine; any other name as it is.

    Raises:
        ConfigError: if torch cannot use the named device.
    """
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        kind = next(kind for kind in ("cuda", "mps", "cpu") if available[kind])
        rank = os.environ.get("LOCAL_RANK")  # set by accelerate launch: each process has a device of its own
        return f"cuda:{rank}" if kind == "cuda" and rank else kind
    if not available[name.partition(":")[0]]:
        raise ConfigError(f"TDM_DEVICE: {name} is not available to torch {torch.__version__}; leave it at auto")
    return name


def free_gb(device: str) -> float:
    """Free memory of a device, in units of 10^9 bytes; of the main memory where the device has none of its own."""
    import torch

    return torch.cuda.mem_get_info(device)[0] / 1e9 if device.startswith("cuda") else main_memory_gb()


def main_memory_gb() -> float:
    """Main memory that programs can have, in units of 10^9 bytes: what files are cached in counts, it is given up."""
    try:
        found = re.search(r"MemAvailable: *(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"))
    except OSError:  # not on Linux
        found = None
    if found:
        return int(found[1]) * 1024 / 1e9
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") / 1e9


def empty_cache(device: str) -> None:
    """Give back what freed tensors have left behind."""
    import torch

    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()


def synchronizer(device: torch.device) -> Callable[[], None]:
    """Waits until the device has done what it was asked."""
    import torch

    kinds = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}
    return kinds.get(device.type, lambda: None)


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """So many CPU threads for the networks that this thread runs."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def device_errors() -> Iterator[None]:
    """Too little memory is told as a `SamplingError` with the cure."""
    import torch

    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one; the CPU's allocator has no class of its own
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise SamplingError(
                "The device has too little memory for this system.\n"
                "Stop other programs, set TDM_OFFLOAD=model (or sequential), or choose a smaller preset."
            ) from error
        raise
