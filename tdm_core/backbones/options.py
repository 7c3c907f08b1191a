"""Which arguments of the stock pipelines a preset may set by its ``options``."""

from __future__ import annotations

import inspect
from collections.abc import Iterable

from diffusers import DiffusionPipeline

from tdm_core.errors import ConfigError

RESERVED = frozenset(
    "self num_inference_steps guidance_scale generator latents output_type return_dict height width num_frames "
    "timesteps sigmas max_sequence_length callback callback_on_step_end clean_caption use_resolution_binning "
    "num_images_per_prompt num_videos_per_prompt".split()
)
"""Arguments of the stock pipelines that a preset's options must not name: they have keys of their own, or are ours."""


def check_options(pipeline_class: type[DiffusionPipeline], options: Iterable[str]) -> None:
    """Raises `ConfigError` if the stock pipeline has no such argument, or a preset has no say in it."""
    arguments = inspect.signature(pipeline_class.__call__).parameters.keys() - RESERVED
    taken = {name for name in arguments if not name.startswith(("prompt", "negative_prompt"))}
    for name in options:
        if name not in taken:
            raise ConfigError(
                f"options: {pipeline_class.__name__} takes no {name!r} from a preset.\n"
                f"Mend its options; it takes, of its own: {', '.join(sorted(taken))}"
            )
