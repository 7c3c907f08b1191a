"""Loading and calling, the same for every family: a folder or Hub repository to a stock pipeline, prompts to latents.

Every way in which weights can be missing or damaged ends in a `LoadError` that says so and names the cure: the stock
loaders only warn, or raise what no user can read, for most of them.  Settings that no file could satisfy (another
family's base, a size that it cannot make, an option that the pipeline lacks) are a `ConfigError`.
"""

from __future__ import annotations

import errno
import inspect
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import diffusers
import numpy as np
import torch
import transformers
from diffusers import AutoModel, DiffusionPipeline
from huggingface_hub import hf_hub_download, list_repo_files, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import logging as hub_logging
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tdm_core.backbones.lora_file import ADAPTER_CONFIG, FETCH_AGAIN
from tdm_core.backbones.options import check_options
from tdm_core.backbones.schedulers import given_times
from tdm_core.errors import ConfigError, LoadError

INDEX = "model_index.json"
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "spiece.model")
LORA_ENDINGS = (".safetensors", ".bin", ".pt", ".ckpt")

HUB_ERRORS: tuple[type[Exception], ...] = (
    OSError,
    ValueError,
    EntryNotFoundError,
    cast(type[Exception], HfHubHTTPError.__bases__[0]),
)
"""The last one is the HTTP client's own, timeouts included; which client that is, is the Hub library's affair."""
LOAD_ERRORS: tuple[type[Exception], ...] = (*HUB_ERRORS, RuntimeError, TypeError, SafetensorError)

OnStep = Callable[[int, Tensor], None]
"""Told after each step how many are done, and the latents [B, ...]."""

Offload = Literal["none", "model", "sequential"]
"""Keep whole components, or single layers, in main memory until they are used."""
BLOCK_LISTS = ("transformer_blocks", "single_transformer_blocks")


@dataclass(frozen=True, kw_only=True)
class Size:
    """Of one sample, in pixels and frames."""

    width: int
    height: int
    frames: int = 1

    def __str__(self) -> str:
        return f"{self.width}x{self.height} px" + (f", {self.frames} frames" if self.frames > 1 else "")


@dataclass(frozen=True, kw_only=True)
class Run:
    """How one batch is denoised."""

    noise: Tensor
    """Standard normal [B, ...], whatever its scale in the scheduler."""
    steps: int
    guidance_scale: float
    times: Sequence[float] | None
    """Noisiest first, without the final 0; ``None`` leaves them to the scheduler."""
    size: Size
    generators: Sequence[torch.Generator]
    """One a sample, for schedulers that add noise on the way."""
    on_step: OnStep
    options: Mapping[str, Any]
    """Further arguments of the stock pipeline."""


class Family(Protocol):
    """What one family of systems must say to be sampled; each module ``backbones/<family>.py`` is one."""

    Pipeline: type[DiffusionPipeline]
    DENOISER: str
    """The pipeline's component that is evaluated at each step."""
    T5_TOKENS: int
    """How many tokens of a prompt its T5 reads if nothing else is asked for; 0 without a T5."""
    OMIT: tuple[str, ...]
    """Components that are never needed here."""

    def latent_shape(self, pipeline: Any, size: Size) -> tuple[int, ...]:
        """The shape of one sample's latents; refuses sizes that the model cannot make."""

    def encode(
        self, pipeline: Any, prompts: Sequence[str], *, max_sequence_length: int | None, negative: bool = False
    ) -> dict[str, Tensor]:
        """Arguments of the stock pipeline that replace these prompts, each [B, ...]; the same for negative ones."""

    def sample(self, pipeline: Any, text: Mapping[str, Tensor], run: Run) -> Tensor:
        """The stock pipeline's latents [B, ...]."""

    def decode(self, pipeline: Any, latents: Tensor) -> np.ndarray:
        """Latents [B, ...] to pixels, uint8 [B, H, W, 3] or [B, F, H, W, 3]."""

    def preview(self, pipeline: Any, latents: Tensor) -> np.ndarray:
        """One picture of each sample, uint8 [B, H, W, 3], quickly."""


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
    offload: Offload = "none",
    revision: str | None = None,
    variant: str | None = None,
    omit: Iterable[str] = (),
    vae: str | Path | None = None,
    vae_slicing: bool = False,
    vae_tiling: bool = False,
) -> Any:
    """The stock pipeline of a base, ready to run.

    Args:
        base: a folder in diffusers' layout, or a Hub repository.
        offload: anything but none leaves the weights in main memory, for `start_offload`.
        variant: which of several precisions of the weights' files is loaded, such as fp16.
        omit: components that are not loaded, such as SD3's third text encoder.
        vae: a folder or Hub repository whose autoencoder replaces the base's.

    Raises:
        LoadError: if the base is missing, gated or incomplete.
        ConfigError: if it is of another family.
    """
    if Path(base).is_dir():
        check_folder(Path(base), omit)
    parts: dict[str, Any] = dict.fromkeys(omit)
    if "requires_safety_checker" in inspect.signature(pipeline_class.__init__).parameters:
        parts["requires_safety_checker"] = False
    place = str(base)
    try:
        check_class(pipeline_class, base, revision)
        if vae:
            place = str(vae)
            parts["vae"] = AutoModel.from_pretrained(place, dtype=dtype)
            place = str(base)
        pipeline: Any = pipeline_class.from_pretrained(base, dtype=dtype, revision=revision, variant=variant, **parts)
    except LOAD_ERRORS as error:
        raise LoadError(_explain(error, place)) from error
    pipeline.set_progress_bar_config(disable=True)
    if vae_slicing:
        pipeline.vae.enable_slicing()
    if vae_tiling:
        pipeline.vae.enable_tiling()
    return pipeline.to(device) if offload == "none" else pipeline


def compile_blocks(denoiser: Any) -> None:
    """Let ``torch.compile`` make each transformer block's code when it first runs; role and weights stay as they are.

    Block by block, since blocks share their code, which takes a fraction of the whole's time to make.  Not
    ``compile_repeated_blocks``, which knows none of the SD3, PixArt and CogVideoX transformers.
    """
    for name, blocks in denoiser.named_modules():
        if name.rpartition(".")[2] in BLOCK_LISTS:
            for block in blocks:
                block.compile()


def start_offload(pipeline: Any, device: str | torch.device, offload: Offload) -> None:
    """Let components travel to the device when they are used.

    Raises:
        LoadError: on a device that has no memory of its own.
    """
    if offload == "none":
        return
    if torch.device(device).type == "cpu":
        raise LoadError(
            f"offload = {offload!r} needs a GPU: on the CPU there is nowhere to move weights to.\n"
            'Set offload = "none" (TDM_OFFLOAD).'
        )
    if offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.enable_sequential_cpu_offload(device=device)


def call(pipeline: Any, text: Mapping[str, Tensor], run: Run, **more: Any) -> Tensor:
    """The latents of a stock pipeline, which reports each step; ``more`` are its own arguments.

    Raises:
        ConfigError: if the pipeline has no such option, or its scheduler cannot be put at the run's times.
    """
    check_options(type(pipeline), run.options)
    taken = inspect.signature(type(pipeline).__call__).parameters

    def callback(_: Any, index: int, __: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        run.on_step(index + 1, tensors["latents"])
        return {}

    report: dict[str, Any] = {"callback_on_step_end": callback}
    if "callback_on_step_end" not in taken:  # PixArt's is the older kind
        report = {"callback": lambda index, _, latents: run.on_step(index + 1, latents)}
    times = given_times(pipeline.scheduler, run.times)
    return pipeline(
        **text,
        **times,
        **report,
        **more,
        **run.options,
        num_inference_steps=run.steps,
        guidance_scale=run.guidance_scale,
        generator=list(run.generators) or None,
        latents=run.noise.to(next(iter(text.values())).dtype),
        output_type="latent",
        return_dict=False,
    )[0]


def divisible(size: Size, multiple: int) -> None:
    """Raises `ConfigError` if a model of pictures cannot make this size."""
    if size.frames != 1:
        raise ConfigError(f"{size}: this base makes pictures.\nLeave out frames in the preset, and media.")
    if size.height % multiple or size.width % multiple:
        raise ConfigError(f"{size}: this base makes multiples of {multiple} only.\nMend the preset's size.")


def to_pixels(samples: Tensor) -> np.ndarray:
    """An autoencoder's output in [-1, 1], channels third from last, to uint8 with channels last; stock rounding."""
    pixels = (samples.float() / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8)
    return pixels.movedim(-3, -1).cpu().numpy()


def unread(pipeline: Any, prompt: str, *, t5_tokens: int) -> str:
    """The end of a prompt that none of the text encoders reads; empty if one of them reads all of it."""
    rests = []
    for name, tokenizer in pipeline.components.items():
        if not name.startswith("tokenizer") or tokenizer is None:
            continue
        is_t5 = not name.endswith("_2") and type(tokenizer).__name__.startswith("T5")
        limit = t5_tokens if is_t5 else tokenizer.model_max_length
        tokens = tokenizer(prompt, add_special_tokens=True, truncation=False, verbose=False).input_ids
        rests.append("" if len(tokens) <= limit else tokenizer.decode(tokens[limit - 1 :], skip_special_tokens=True))
    return min(rests, key=len, default="").strip()


def fetch_lora(repository: str, name: str | None) -> Path:
    """The LoRA file of a Hub repository, from the cache if it is there; its only one, where no name is given.

    Raises:
        LoadError: if it cannot be had, or there are several to choose from.
    """
    try:
        files = _files(repository)
        if name is None:
            found = [file for file in files if file.endswith(LORA_ENDINGS) and "/" not in file]
            if len(found) != 1:
                raise LoadError(
                    f"{repository}: has {len(found)} files that may be the LoRA: {', '.join(sorted(found)[:4])}\n"
                    "Name one in the preset: student.file."
                )
            name = found[0]
        beside = f"{name.rpartition('/')[0]}/{ADAPTER_CONFIG}".lstrip("/")
        if beside in files:
            hf_hub_download(repository, beside)
        return Path(hf_hub_download(repository, name))
    except HUB_ERRORS as error:
        raise LoadError(_explain(error, f"{repository}/{name or ''}".rstrip("/"))) from error


def _files(repository: str) -> list[str]:
    try:
        return list_repo_files(repository)
    except (GatedRepoError, RepositoryNotFoundError):
        raise
    except HUB_ERRORS as error:
        try:
            folder = Path(snapshot_download(repository, local_files_only=True))
        except HUB_ERRORS:
            raise error from None
        return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def check_class(pipeline_class: type[DiffusionPipeline], base: str | Path, revision: str | None = None) -> None:
    """Raises `ConfigError` if the base is another family's."""
    if Path(base).is_dir():
        file = Path(base) / INDEX
    else:
        file = Path(hf_hub_download(str(base), INDEX, revision=revision))
    found = json.loads(file.read_text(encoding="utf-8")).get("_class_name")
    if found != pipeline_class.__name__:
        raise ConfigError(
            f"{base}: is a {found}, and this family loads a {pipeline_class.__name__}.\n"
            "Mend family or base in the preset."
        )


def _quiet_libraries() -> None:
    # Two lines on stderr are the user's; these libraries would fill a screen with progress bars and advice, and with
    # errors that they also raise, which `_explain` tells.
    for library in (diffusers.logging, transformers.logging):
        library.set_verbosity(logging.CRITICAL)
        library.disable_progress_bar()
    hub_logging.set_verbosity_error()  # it warns of each new try


def check_folder(folder: Path, omit: Iterable[str] = ()) -> None:
    """Are all parts of a pipeline there, and whole?  Reads headers only.

    Raises:
        LoadError: names the part and the cure.
    """
    index = folder / INDEX
    if not index.is_file():
        raise LoadError(f"{folder}: has no {INDEX}, so it is no pipeline of diffusers, or half of one.")
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


def _explain(error: BaseException, place: str) -> str:
    causes = []
    while error is not None and error not in causes:
        causes.append(error)
        error = cast(BaseException, error.__cause__ or error.__context__)
    repository = "/".join(place.split("/")[:2])

    def caused_by(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if caused_by(GatedRepoError):
        return (
            f"{repository} is gated.\n"
            f"Accept its licence at https://huggingface.co/{repository}, then log in: hf auth login"
        )
    if caused_by(RepositoryNotFoundError):
        return (
            f"{repository}: no such repository on the Hub, or it is private.\nCheck its name, or log in: hf auth login"
        )
    if any(isinstance(cause, OSError) and cause.errno == errno.ENOSPC for cause in causes):
        return (
            f"{place}: the disk is full.\nFree some space, or set HF_HOME to a folder with more; the download goes on."
        )
    no_answer = caused_by(TimeoutError, ConnectionError) or any("Timeout" in type(cause).__name__ for cause in causes)
    if no_answer and not caused_by(OfflineModeIsEnabled):
        return f"{place}: the Hub does not answer.\nTry again later: what has arrived is kept."
    if caused_by(OfflineModeIsEnabled, LocalEntryNotFoundError):
        return (
            f"{place}: is not on this machine in full, and the Hub cannot be reached.\n"
            "Check the network, and that HF_HUB_OFFLINE is not set."
        )
    if caused_by(EntryNotFoundError):
        return f"{place}: the repository has no such file.\nMend the file's name in the preset."
    first_line = next(iter(str(causes[0]).strip().splitlines()), "")[:200]
    if Path(place).is_dir():
        return f"{place}: cannot be loaded: {first_line}\nCheck the folder."
    return (
        f"{place}: its copy in the Hub's cache is incomplete or damaged: {first_line}\n"
        "Run this again with the network there and HF_HUB_OFFLINE unset to fetch it again; delete a damaged file first."
    )
