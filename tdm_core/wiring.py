"""From settings to what they describe: the composition that ``app.py`` and the commands share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tdm_core.generation.engine import Engine
from tdm_core.generation.presets import SHIPPED, Preset, load_presets
from tdm_core.settings import Settings


@dataclass(frozen=True)
class Wiring:
    """Made on demand, once: reading presets is cheap, and the engine loads weights only when it is asked to sample."""

    settings: Settings

    @cached_property
    def presets(self) -> dict[str, Preset]:
        """Raises `PresetError` if one cannot be read."""
        return load_presets([SHIPPED, *([self.settings.presets] if self.settings.presets else [])])

    @cached_property
    def engine(self) -> Engine:
        return Engine(
            self.presets, device=self.settings.device, threads=self.settings.threads, offload=self.settings.offload
        )
