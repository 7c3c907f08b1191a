"""Can a system run on this machine, and if not why: known from the preset, the Hub's cache and free memory, untried."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tdm_core.generation.presets import Preset

WEIGHTS = ("*.safetensors", "*.bin")
LORA_WEIGHTS = (*WEIGHTS, "*.pt", "*.ckpt")
WITHOUT_WEIGHTS = ("tokenizer", "scheduler", "feature_extractor", "image_processor")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What decides whether a system can run; in units of 10^9 bytes."""

    device: str
    """cpu, mps or cuda."""
    device_gb: float
    """Free on the device; of a CPU, free main memory."""
    memory_gb: float
    """Free main memory."""
    disk_gb: float
    """Free where the Hub's files are kept."""
    logged_in: bool
    offline: bool = False
    offload: str | None = None
    """What the user asks of all presets."""
    snapshot: Callable[[str, str | None], Path | None] = lambda repository, revision: None
    """Where a Hub repository lies in the cache, at a revision or the newest; ``None`` if it was never fetched."""


def reasons(preset: Preset, machine: Machine) -> list[str]:
    """Why the system cannot run here yet, each with its cure; empty if it can."""
    if problems := list(preset.problems().values()):
        return problems
    found = []
    if preset.lacks_student():
        found.append(f"its student is not in {preset.student.lora} yet: distil one, or name a LoRA of yours")
    found += too_large(preset, machine)
    if missing := _missing(preset, machine):
        found += _download(preset, machine, missing)
    return found


def too_large(preset: Preset, machine: Machine) -> list[str]:
    """Why the machine cannot hold the system, with the cure; empty if it can, or nobody knows what it takes."""
    needed = preset.memory_gb
    if needed is None:
        return []
    if machine.device == "cpu":
        if preset.dtype != "float32":
            return [f"made for a GPU ({preset.dtype})"]
        if needed <= machine.memory_gb:
            return []
        return [f"needs {needed:g} GB of memory; {machine.memory_gb:.0f} are free"]
    if (machine.offload or preset.offload) != "none":
        if needed <= machine.memory_gb:
            return []
        return [f"needs {needed:g} GB of main memory to offload to; {machine.memory_gb:.0f} are free"]
    if needed <= machine.device_gb:
        return []
    return [f"needs {needed:g} GB on the GPU; {machine.device_gb:.0f} are free: set TDM_OFFLOAD=model, or sequential"]


def lacks_only_a_download(preset: Preset, machine: Machine) -> bool:
    """Would it run, were its files here, and can they be had?"""
    found = [] if preset.problems() or preset.lacks_student() else _missing(preset, machine)
    return bool(found) and reasons(preset, machine) == _download(preset, machine, found)[:1]


def missing_parts(folder: Path, omit: Iterable[str] = ()) -> list[str]:
    """The parts of a pipeline's folder whose weights are not all there."""
    index = folder / "model_index.json"
    if not index.exists():
        return ["model_index.json"]
    kinds = json.loads(index.read_text(encoding="utf-8"))
    parts = [name for name, kind in kinds.items() if isinstance(kind, list) and kind[0] and name not in set(omit)]
    return [name for name in parts if not _is_whole(folder / name)]


def _is_whole(part: Path) -> bool:
    if part.name.startswith(WITHOUT_WEIGHTS):
        return any(path.exists() for path in part.glob("*.json"))
    shards = [part / name for index in part.glob("*.index*.json") for name in _shards(index)]
    files = shards or [path for pattern in WEIGHTS for path in part.glob(pattern)]
    # A link whose target was deleted does not exist, though the folder lists it.
    return bool(files) and all(path.exists() for path in files)


def _shards(index: Path) -> set[str]:
    return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()) if index.exists() else {index.name}


def _missing(preset: Preset, machine: Machine) -> list[str]:
    """Hub repositories that are not on this machine, or not in full."""
    found = []
    for key, repository in preset.repositories().items():
        folder = machine.snapshot(repository, preset.revision if key == "base" else None)
        parts = _missing_files(preset, key, folder) if folder else []
        if folder is None:
            found.append(repository)
        elif parts:
            found.append(f"{repository} ({', '.join(parts)})")
    return found


def _missing_files(preset: Preset, key: str, folder: Path) -> list[str]:
    if key == "base":
        return missing_parts(folder, preset.omit)
    if key == "vae":
        return [] if (folder / "config.json").exists() and _is_whole(folder) else ["its weights"]
    name = preset.student.file
    if name:
        return [] if (folder / name).exists() else [name]
    return [] if any(path.exists() for pattern in LORA_WEIGHTS for path in folder.glob(pattern)) else ["the LoRA file"]


def _download(preset: Preset, machine: Machine, missing: list[str]) -> list[str]:
    size = f", {preset.download_gb:g} GB" if preset.download_gb and missing[0].startswith(preset.base) else ""
    found = [f"needs a download of {', '.join(missing)}{size}"]
    if machine.offline:
        found.append("HF_HUB_OFFLINE is set: unset it, or copy the files into the Hub's cache")
    if size and (preset.download_gb or 0) > machine.disk_gb:
        found.append(f"{machine.disk_gb:.0f} GB of disk are free: free some, or set HF_HOME to a folder with more")
    if preset.gated and not machine.logged_in:
        found.append(f"gated: accept the licence at https://huggingface.co/{preset.base}, then log in: hf auth login")
    return found
