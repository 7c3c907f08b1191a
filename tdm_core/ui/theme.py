"""How the page looks: Gradio's plain theme with our colours, and one style sheet.  No font or file from elsewhere."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from tdm_core.ui import languages

_FOLDER = Path(__file__).parent
CSS = "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "benchmarks.css"))
HEAD = '<meta name="color-scheme" content="light dark">' + languages.script()


def make_theme() -> gr.themes.Base:
    return gr.themes.Base(
        primary_hue="violet",
        neutral_hue="zinc",
        radius_size="lg",
        font=["ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="#0f0f12",
        block_background_fill="white",
        block_background_fill_dark="#1a1a1f",
        background_fill_secondary="*neutral_100",
        background_fill_secondary_dark="#232329",
        border_color_primary="*neutral_200",
        border_color_primary_dark="#2e2e36",
        block_border_color_dark="#2e2e36",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_label_text_color="*neutral_700",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
        button_primary_text_color="white",
        input_background_fill="white",
        input_background_fill_dark="#232329",
        block_shadow="none",
    )
