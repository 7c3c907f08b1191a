"""Students that were made on this page: each is a folder with a LoRA, sampled as the preset's own student is."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, MutableMapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from tdm_core.generation.presets import STOCK_LORA_FILES, Preset

MOST_KEPT = 4


class Students:
    """The newest few, as presets beside the one whose teacher they share."""

    def __init__(
        self,
        folder: Path,
        presets: MutableMapping[str, Preset],
        of: Preset,
        *,
        forget: Callable[[str], None] = lambda name: None,
        most_kept: int = MOST_KEPT,
    ) -> None:
        """
        Args:
            folder: holds one folder a student; what is there already is offered again.
            presets: where the engine looks presets up.
            forget: is told which preset has left.
        """
        self._folder, self._presets, self._of = folder, presets, of
        self._forget, self._most_kept = forget, most_kept
        self._names: list[str] = []
        self._adding = threading.Lock()
        self._number = max((_number(each) for each in folder.glob(f"{of.name}-live-*")), default=0)
        for each in sorted(folder.glob(f"{of.name}-live-*"), key=_number):
            if any((each / name).is_file() for name in STOCK_LORA_FILES):
                self.add(each)
            else:
                shutil.rmtree(each, ignore_errors=True)  # its run was broken off

    def new_folder(self) -> Path:
        """Where the next student goes; a name is never given twice."""
        with self._adding:
            self._number += 1
            folder = self._folder / f"{self._of.name}-live-{self._number}"
            folder.mkdir(parents=True)
        return folder

    def add(self, folder: Path) -> Preset:
        """Offer the finished student in a folder of `new_folder`, and let the oldest go."""
        made = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
        student = replace(
            self._of.student, lora=str(folder.resolve()), file=None, sigmas={}, timesteps={}, made_here=False
        )
        title = f"made live, {made:%d %B %H:%M} UTC"
        preset = replace(self._of, name=folder.name, title=title, student=student)
        with self._adding:
            self._presets[preset.name] = preset
            self._names.append(preset.name)
            gone, self._names = self._names[: -self._most_kept], self._names[-self._most_kept :]
        for name in gone:
            del self._presets[name]
            self._forget(name)
            shutil.rmtree(self._folder / name, ignore_errors=True)
        return preset

    def all(self) -> dict[str, Preset]:
        """Newest first."""
        with self._adding:
            return {name: self._presets[name] for name in reversed(self._names)}


def _number(folder: Path) -> int:
    found = re.search(r"-live-(\d+)$", folder.name)
    return int(found.group(1)) if found else 0
