"""The Systems tab: what can run here, what each system needs, and why some cannot run yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from tdm_core.generation.presets import Preset
from tdm_core.ui import texts
from tdm_core.ui.inputs import PageInputs
from tdm_core.ui.viewer import static_html

_SCRIPT = (Path(__file__).parent / "systems.js").read_text(encoding="utf-8")
_TEMPLATE = '<section class="tdm-systems"><p class="tdm-lead"></p><div class="tdm-system-cards"></div></section>'


def systems_tab(inputs: PageInputs, *, opened: gr.Tab) -> gr.HTML:
    """Its event ``select`` brings the name of the system that a visitor wants to compare with."""
    cards = static_html(_TEMPLATE, "", _SCRIPT, elem_id="tdm-systems")
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
    opened.select(lambda: systems_value(inputs), None, cards, **private)
    return cards


def systems_value(inputs: PageInputs) -> dict[str, Any]:
    """Those that can run first; looked up anew whenever the tab opens, since a download may have come in."""
    cards = [card(system.preset, inputs.why_not(name)) for name, system in inputs.systems.items()]
    return {
        "lead": texts.SYSTEMS_LEAD,
        "choose": texts.SYSTEM_CHOOSE,
        "runs": texts.SYSTEM_RUNS,
        "cards": sorted(cards, key=lambda each: bool(each["why_not"])),
    }


def card(preset: Preset, why_not: list[str]) -> dict[str, Any]:
    """One system as plain words."""
    size = f"{preset.width} × {preset.height}"
    size += f", {preset.frames} frames, {preset.fps} a second" if preset.media == "video" else ""
    facts = {
        "size": size,
        "steps": f"{preset.teacher.steps} → {preset.student.steps}",
        "licence": preset.licence
        + (f" ({texts.SYSTEM_GATED})" if preset.gated and "gated" not in preset.licence else ""),
        "download": f"{preset.download_gb:g} GB" if preset.download_gb else "",
        "memory": f"{preset.memory_gb:g} GB" if preset.memory_gb else "",
    }
    return {
        "name": preset.name,
        "title": preset.title,
        "media": preset.media,
        "facts": [[texts.SYSTEM_FACTS[key], value] for key, value in facts.items() if value],
        "licence_url": preset.licence_url,
        "why_not": why_not,
    }
