"""Loading, the same for every family: a folder or Hub repository to a stock pipeline, a LoRA file to its layers.

Every way in which weights can be missing, damaged or of another model ends in a `LoadError` that says so and
names the cure: the stock loaders only warn, or raise what no user can read, for most of them.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

import diffusers
import numpy as np
import torch
import transformers
from diffusers import AutoModel, DiffusionPipeline
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from tdm_core.backbones.lora_file import FETCH_AGAIN, check_lora_file
from tdm_core.errors import LoadError

STUDENT = "student"
"""The name of the student's adapter."""

TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "spiece.model")

OnStep = Callable[[int, Tensor], None]
"""Told after each step how many are done, and the latents [B, ...]."""


class Family(Protocol):
    """What one family of systems must say to be sampled; each module ``backbones/<family>.py`` is one."""

    Pipeline: type[DiffusionPipeline]
    DENOISER: str
    """The pipeline's component that is evaluated at each step."""

    def latent_shape(self, pipeline: Any, *, height: int, width: int) -> tuple[int, ...]:
        """The shape of one sample's latents; refuses sizes that the model cannot make."""

    def sample(
        self,
        pipeline: Any,
        *,
        prompts: Sequence[str],
        noise: Tensor,
        steps: int,
        guidance_scale: float,
        sigmas: Sequence[float] | None,
        size: tuple[int, int],
        max_sequence_length: int | None,
        on_step: OnStep,
    ) -> Tensor:
        """The stock pipeline's latents [B, ...] for these prompts, from this noise; ``size`` is (height, width)."""

    def decode(self, pipeline: Any, latents: Tensor) -> np.ndarray:
        """Latents [B, ...] to pixels, uint8 [B, H, W, 3]."""


def family(name: str) -> Family:
    """The family of that name (``sd3``)."""
    _quiet_libraries()  # before the import, which would already print
    return cast(Family, import_module(f"tdm_core.backbones.{name}"))


def load_pipeline(
    pipeline_class: type[DiffusionPipeline],
    base: str | Path,
    *,
    dtype: torch.dtype,
    device: str | torch.device = "cpu",
    revision: str | None = None,
    omit: Iterable[str] = (),
    vae: str | Path | None = None,
) -> Any:
    """The stock pipeline of a base, ready to run.

    Args:
        base: a folder in diffusers' layout, or a Hub repository.
        omit: components that are not loaded, such as SD3's third text encoder.
        vae: a folder or Hub repository whose autoencoder replaces the base's.

    Raises:
        LoadError: if the base is missing, gated, incomplete or of another family.
    """
    if Path(base).is_dir():
        check_folder(Path(base), omit)
    parts: dict[str, Any] = dict.fromkeys(omit)
    try:
        if vae:
            parts["vae"] = AutoModel.from_pretrained(vae, dtype=dtype)
        pipeline = pipeline_class.from_pretrained(base, dtype=dtype, revision=revision, **parts)
    except (OSError, ValueError, RuntimeError, TypeError, SafetensorError) as error:
        raise LoadError(_explain(error, str(base))) from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def fetch_file(repository: str, name: str) -> Path:
    """One file of a Hub repository, from the cache if it is there.

    Raises:
        LoadError: if it cannot be had.
    """
    try:
        return Path(hf_hub_download(repository, name))
    except (OSError, ValueError) as error:
        raise LoadError(_explain(error, f"{repository}/{name}")) from error


def load_student_lora(pipeline: Any, denoiser: str, file: Path, *, strength: float = 1.0, merge: bool = False) -> Any:
    """The student's pipeline: the teacher's, with a LoRA on the denoiser.

    Args:
        merge: fold the LoRA into a second copy of the denoiser and leave the teacher's alone; otherwise both share
            one denoiser, and `switch_role` chooses.

    Raises:
        LoadError: if the file is missing, damaged, or does not fit the denoiser in full.
    """
    model = getattr(pipeline, denoiser)
    expected = check_lora_file(file, model, prefix=denoiser)
    if merge:
        pipeline = type(pipeline)(**{**pipeline.components, denoiser: copy.deepcopy(model)})
        pipeline.set_progress_bar_config(disable=True)
    try:
        pipeline.load_lora_weights(file.parent, weight_name=file.name, adapter_name=STUDENT)
    except (ValueError, RuntimeError, TypeError) as error:
        raise LoadError(_explain(error, str(file))) from error
    found = count_lora_layers(getattr(pipeline, denoiser))
    if found != expected:
        raise LoadError(f"{file}: {found} of its {expected} layers were loaded.\nIt was made for another version.")
    if merge:
        pipeline.fuse_lora(components=[denoiser], lora_scale=strength)
        pipeline.unload_lora_weights()
    else:
        pipeline.set_adapters([STUDENT], [strength])
    return pipeline


def count_lora_layers(model: nn.Module, adapter: str = STUDENT) -> int:
    """How many layers carry the adapter."""
    return sum(isinstance(module, BaseTunerLayer) and adapter in module.scaling for module in model.modules())


def switch_role(model: Any, *, student: bool) -> None:
    """Choose who speaks through a denoiser that carries the student's adapter; nothing to do where it was merged."""
    if count_lora_layers(model):
        (model.enable_adapters if student else model.disable_adapters)()


def make_scheduler(pipeline: Any, name: str | None, config: dict[str, Any]) -> Any:
    """A scheduler of one's own for a role: a named class of diffusers, or a copy of the base's.

    Raises:
        LoadError: if diffusers has no such scheduler.
    """
    if name is None:
        return type(pipeline.scheduler).from_config(pipeline.scheduler.config, **config)
    scheduler_class = getattr(diffusers, name, None)
    if not name.endswith("Scheduler") or scheduler_class is None:
        raise LoadError(f"scheduler {name!r}: diffusers {diffusers.__version__} has no such class")
    return scheduler_class.from_config(config)


def _quiet_libraries() -> None:
    # Two lines on stderr are the user's; these libraries would fill a screen with progress bars and advice.
    for library in (diffusers.logging, transformers.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()


def check_folder(folder: Path, omit: Iterable[str] = ()) -> None:
    """Are all parts of a pipeline there, and whole?  Reads headers only.

    Raises:
        LoadError: names the part and the cure.
    """
    index = folder / "model_index.json"
    if not index.is_file():
        raise LoadError(f"{folder}: has no model_index.json, so it is no pipeline of diffusers, or half of one.")
    parts = [name for name, kind in json.loads(index.read_text()).items() if isinstance(kind, list) and kind[0]]
    for name in sorted(set(parts) - set(omit)):
        # Without its files a tokenizer loads all the same, and knows no word.
        wanted = TOKENIZER_FILES if name.startswith("tokenizer") else ("*.json",)
        if not any(any((folder / name).glob(pattern)) for pattern in wanted):
            raise LoadError(f"{folder / name}: missing, or without {' or '.join(wanted)}.\n{FETCH_AGAIN}")
        for file in sorted((folder / name).glob("*.safetensors")):
            try:
                with safe_open(file, framework="pt"):
                    pass
            except SafetensorError:
                raise LoadError(f"{file}: not a whole safetensors file.\n{FETCH_AGAIN}") from None


def _explain(error: BaseException, base: str) -> str:
    causes = []
    while error is not None and error not in causes:
        causes.append(error)
        error = cast(BaseException, error.__cause__ or error.__context__)
    if any(isinstance(cause, GatedRepoError) for cause in causes):
        return f"{base} is gated.\nAccept its licence at https://huggingface.co/{base}, then log in: hf auth login"
    if any(isinstance(cause, RepositoryNotFoundError) for cause in causes):
        return f"{base}: no such repository on the Hub, or it is private.\nCheck its name, or log in: hf auth login"
    first_line = next(iter(str(causes[0]).strip().splitlines()), "")
    return f"{base}: cannot be loaded: {first_line[:200]}\nCheck the folder, or the network if it is a Hub repository."
