"""How long a sample may hold a rented GPU: from what a bench has fitted, ``seconds = fixed + per_evaluation * NFE``.

ZeroGPU takes the device away when the asked seconds are over, and charges a visitor's quota by them, so guessing long
is as wrong as guessing short.  A fit is the JSON that ``evaluate bench --preset NAME --out assets/speed/NAME.json``
writes on the device in question; presets without one ask for what ZeroGPU gives by default.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tdm_core.errors import ConfigError
from tdm_core.generation.plan import make_plan
from tdm_core.generation.presets import PROJECT, Preset
from tdm_core.generation.sample import SampleRequest

SPEED = PROJECT / "assets" / "speed"
USUAL_SECONDS = 60
LEAST_SECONDS, MOST_SECONDS = 5, 300
MARGIN = 1.5
"""A busy card, a first call, previews: what is left is given back."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Of one preset on one device."""

    fixed_seconds: float
    seconds_per_evaluation: float

    def seconds(self, evaluations: int) -> int:
        """To ask for: whole seconds, with a margin."""
        expected = self.fixed_seconds + self.seconds_per_evaluation * evaluations
        return min(MOST_SECONDS, max(LEAST_SECONDS, math.ceil(MARGIN * expected)))


def read_fits(folder: Path = SPEED) -> dict[str, Fit]:
    """The fits of a folder, by preset.

    Raises:
        ConfigError: if a file is not what a bench writes.
    """
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            row = json.loads(path.read_text(encoding="utf-8"))
            fit = row["student_fit"]
            found[row["preset"]] = Fit(
                fixed_seconds=float(fit["fixed_seconds"]),
                seconds_per_evaluation=float(fit["seconds_per_evaluation"]),
            )
        except (ValueError, KeyError, TypeError):
            raise ConfigError(f"{path}: not what evaluate bench --out writes; make it again") from None
    return found


def seconds_of(presets: Mapping[str, Preset], fits: Mapping[str, Fit]) -> Callable[[SampleRequest], int]:
    """How many seconds to ask for, by request; one that will be refused asks for the least."""

    def seconds(request: SampleRequest) -> int:
        preset = presets.get(request.preset)
        if preset is None:
            return LEAST_SECONDS
        fit = fits.get(request.preset)
        return fit.seconds(make_plan(preset, request).nfe) if fit else USUAL_SECONDS

    return seconds
