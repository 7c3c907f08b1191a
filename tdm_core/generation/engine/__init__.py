"""From a loaded system to samples: the only part of generation that needs torch."""

from tdm_core.generation.engine.checks import findings
from tdm_core.generation.engine.devices import choose_device, free_gb, main_memory_gb
from tdm_core.generation.engine.engine import Engine

__all__ = ["Engine", "choose_device", "findings", "free_gb", "main_memory_gb"]
