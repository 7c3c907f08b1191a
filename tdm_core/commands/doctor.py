"""``doctor``: versions, device, memory, database, presets; says what is broken and how to mend it."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tdm_core.errors import TDMError
from tdm_core.generation.plan import student_grids
from tdm_core.generation.presets import Preset
from tdm_core.wiring import Wiring

PACKAGES = ("torch", "diffusers", "transformers", "peft", "safetensors", "numpy", "pillow", "imageio-ffmpeg", "gradio")
SPARE_BYTES = 200 * 2**20


class Broken(Exception):
    """What is wrong, and its cure."""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("doctor", help="versions, device, memory, database, presets: what is broken, if any")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    wiring: Wiring = args.wiring
    checks: dict[str, Callable[[], str]] = {
        "packages": _packages,
        "device": lambda: _device(wiring.settings.device),
        "data": lambda: _data_folder(wiring.settings.data_dir),
        "database": lambda: _databases(wiring.settings.data_dir),
    }
    checks |= {f"preset {preset.name}": partial(_preset, preset) for preset in wiring.presets.values()}
    broken = sum(not _report(name, check) for name, check in checks.items())
    print(f"{broken} broken" if broken else "all is well")
    return 1 if broken else 0


def _report(name: str, check: Callable[[], str]) -> bool:
    try:
        print(f"ok      {name}: {check()}")
    except (Broken, TDMError, OSError) as error:
        print(f"BROKEN  {name}: {error}".replace("\n", " "))
        return False
    return True


def _packages() -> str:
    found, missing = [f"Python {platform.python_version()}"], []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        raise Broken(f"{', '.join(missing)} missing; install with: make install")
    return ", ".join(found)


def _device(name: str) -> str:
    import torch

    from tdm_core.generation.engine import choose_device

    device = choose_device(name)
    if device.startswith("cuda"):
        free, total = torch.cuda.mem_get_info(device)
        return f"{torch.cuda.get_device_name(device)}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") / 2**30
    return f"{device}, {torch.get_num_threads()} threads, {memory:.0f} GiB of memory free"


def _data_folder(folder: Path) -> str:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise Broken(f"{folder}: cannot be written ({error.strerror}); set TDM_DATA_DIR to a folder that can") from None
    free = shutil.disk_usage(folder).free
    if free < SPARE_BYTES:
        raise Broken(f"{folder}: {free / 2**20:.0f} MiB of disk left; free some space, or set TDM_DATA_DIR elsewhere")
    return f"{folder.resolve()}, {free / 2**30:.0f} GiB of disk free"


def _databases(folder: Path) -> str:
    found = [path for pattern in ("*.db", "*.sqlite", "*.sqlite3") for path in sorted(folder.glob(pattern))]
    for path in found:
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database:
                verdict = database.execute("PRAGMA quick_check").fetchone()[0]
        except sqlite3.Error as error:
            verdict = str(error)
        if verdict != "ok":
            raise Broken(f"{path}: {verdict}; put it aside and restore a copy, or start anew")
    return ", ".join(map(str, found)) or "none yet"


def _preset(preset: Preset) -> str:
    for problem in preset.problems().values():
        raise Broken(problem)
    if (folder := preset.local(preset.base)) is not None:
        from tdm_core.backbones.base import check_folder

        check_folder(folder, preset.omit)
    steps = sorted(student_grids(preset).sigmas) or "no"
    hub = ", ".join(preset.repositories().values())
    return f"student's nodes for {steps} steps" + (f"; from the Hub: {hub}" if hub else "")
