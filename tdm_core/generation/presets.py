"""Presets: one TOML file per system says what to load and how to sample, so that adding a system takes no code.

``assets/presets`` is read first, then the user's folder; of two files with one name the later wins.
The file's name without ``.toml`` is the preset's name.  Unknown keys and wrong types are refused when
the file is read, which in the user's folder leaves the other files' presets as they are; folders and files
that are not there by `Preset.problems`, since a listing should still show the system and say why it cannot run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from tdm_core.errors import ConfigError, PresetError, RequestError
from tdm_core.generation.sample import MediaKind, check_guidance_scale, check_prompt, check_seed, check_steps
from tdm_core.toml_config import from_mapping, read_toml

PROJECT = Path(__file__).resolve().parents[2]
SHIPPED = PROJECT / "assets" / "presets"
STOCK_LORA_FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
"""What diffusers and PEFT call a LoRA file."""

MAX_FRAMES = 200
FLOW_SHIFT = "flow_shift"
"""The setting of a flow model's DPM-Solver that a request may change."""


@dataclass(frozen=True, kw_only=True)
class TeacherSettings:
    """How the teacher samples; ``teacher_few`` differs in its steps alone."""

    steps: int
    guidance_scale: float
    grid: Literal["scheduler", "uniform"] = "scheduler"
    scheduler: str | None = None
    """A scheduler class of diffusers; unset: the one saved with the base."""
    scheduler_config: dict[str, Any] = field(default_factory=dict)
    negative_prompt: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the stock pipeline, such as ``use_dynamic_cfg``."""

    def __post_init__(self) -> None:
        _check_ranges(self.steps, self.guidance_scale)

    @property
    def flow_shift(self) -> float | None:
        """``None`` where the scheduler has none to choose."""
        return self.scheduler_config.get(FLOW_SHIFT)


@dataclass(frozen=True, kw_only=True)
class TensorListSettings:
    """What a LoRA file does not say that is a bare list of tensors."""

    rank: int
    alpha: float
    targets: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class StudentSettings:
    """Which LoRA makes the student and how it samples."""

    lora: str
    """A folder or a Hub repository."""
    steps: int
    file: str | None = None
    """Unset: the stock name, or the only LoRA file there is."""
    made_here: bool = False
    """Nobody publishes this LoRA: this project's trainer, or a user's, makes it.  Until then the teacher runs alone."""
    strength: float = 1.0
    alpha_in_file: bool | None = None
    """Whether the file brings an alpha, which the strength reckons with; another file is refused.  Unset: either."""
    tensor_list: TensorListSettings | None = None
    merge: bool = False
    """Merge the LoRA into a second copy of the denoiser: faster, at the price of its memory."""
    guidance_scale: float = 1.0
    grid: Literal["scheduler", "student"] = "student"
    sigmas: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Time nodes for each step count, for a flow model's LoRA whose metadata hold none."""
    timesteps: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """The same for all other models."""
    scheduler: str | None = None
    scheduler_config: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_ranges(self.steps, self.guidance_scale)

    @property
    def flow_shift(self) -> float | None:
        """``None`` where the scheduler has none to choose."""
        return self.scheduler_config.get(FLOW_SHIFT)


@dataclass(frozen=True, kw_only=True)
class Example:
    """A prompt and a seed that show the system well."""

    prompt: str
    seed: int

    def __post_init__(self) -> None:
        try:
            check_prompt(self.prompt)
            check_seed(self.seed)
        except RequestError as error:
            raise ValueError(str(error)) from None


@dataclass(frozen=True, kw_only=True)
class PresetTable:
    """The keys of a preset file."""

    title: str
    family: Literal["sd3", "sd15", "sdxl", "pixart", "cogvideox"]
    base: str
    """A folder (beside the preset file or in the project) or a Hub repository."""
    revision: str | None = None
    variant: str | None = None
    """Which of several precisions of the weights' files is loaded, such as fp16."""
    omit: tuple[str, ...] = ()
    """Components of the pipeline that are not loaded."""
    vae: str | None = None
    """A folder or a Hub repository with another autoencoder."""
    licence: str
    licence_url: str = ""
    gated: bool = False
    media: MediaKind = "image"
    width: int
    height: int
    frames: int = 1
    fps: int = 8
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    max_sequence_length: int | None = None
    download_gb: float | None = None
    """What the base takes on the disk."""
    memory_gb: float | None = None
    """What one run takes on the device without offloading."""
    offload: Literal["none", "model", "sequential"] = "none"
    """Keep components, or single layers, in main memory until they are used; ``TDM_OFFLOAD`` goes before it."""
    vae_slicing: bool = False
    vae_tiling: bool = False
    teacher: TeacherSettings
    student: StudentSettings
    examples: tuple[Example, ...] = ()
    notes: str = ""
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("width", "height", "frames", "fps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.frames > MAX_FRAMES:
            raise ValueError(f"frames must be at most {MAX_FRAMES}, got {self.frames}")
        if (self.media == "video") != (self.frames > 1):
            raise ValueError(f"media is {self.media!r}, but frames is {self.frames}")


@dataclass(frozen=True, kw_only=True)
class Preset(PresetTable):
    """A preset and the file that it came from."""

    name: str
    origin: Path

    def local(self, where: str) -> Path | None:
        """The folder that ``where`` names, or ``None`` if there is none (a Hub repository, or a mistake)."""
        candidates = (self.origin.parent / Path(where).expanduser(), PROJECT / where)
        return next((folder.resolve() for folder in candidates if folder.is_dir()), None)

    def lora_file(self) -> Path | None:
        """The student's weights on this machine, if its LoRA is a folder."""
        folder = self.local(self.student.lora)
        if folder is None:
            return None
        names = (self.student.file,) if self.student.file else STOCK_LORA_FILES
        return next((folder / name for name in names if (folder / name).is_file()), folder / names[0])

    def lacks_student(self) -> bool:
        """Is its LoRA one that is still to be made?"""
        lora = self.lora_file()
        return self.student.made_here and (lora is None or not lora.is_file())

    def repositories(self) -> dict[str, str]:
        """Key -> Hub repository, for what is not a folder here."""
        places = {"base": self.base} | ({"vae": self.vae} if self.vae else {})
        if not self.lacks_student():
            places["student.lora"] = self.student.lora
        return {key: place for key, place in places.items() if self.local(place) is None}

    def problems(self) -> dict[str, str]:
        """Key -> what it names that is not there, with the file: why this system cannot be loaded from here."""
        found = {
            key: f"no such folder {place!r}, nor can it be a Hub repository"
            for key, place in self.repositories().items()
            if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", place)
        }
        base, lora_file = self.local(self.base), self.lora_file()
        vae = self.local(self.vae) if self.vae else None
        if base and not (base / "model_index.json").is_file():
            found["base"] = f"{base} has no model_index.json, so it is no pipeline of diffusers"
        if vae and not (vae / "config.json").is_file():
            found["vae"] = f"{vae} has no config.json, so it is no autoencoder of diffusers"
        if lora_file and not lora_file.is_file() and not self.lacks_student():
            found["student.lora"] = f"no file {lora_file.name} in {lora_file.parent}"
        return {key: f"{self.origin}: {key}: {problem}" for key, problem in found.items()}


def read_preset(path: Path) -> Preset:
    """One preset.

    Raises:
        PresetError: on unknown or missing keys, wrong types and values; the message names file and key.
    """
    try:
        table = from_mapping(PresetTable, read_toml(path), where=str(path))
    except ConfigError as error:
        raise PresetError(str(error)) from None
    values = {each.name: getattr(table, each.name) for each in fields(table)}
    return Preset(name=path.stem, origin=path, **values)


def load_presets(folders: Iterable[Path] = (SHIPPED,)) -> dict[str, Preset]:
    """All presets of the folders, by name, in the order of the files' names.

    Raises:
        PresetError: if a folder is missing, holds no preset, or one of its files cannot be read.
    """
    presets: dict[str, Preset] = {}
    for folder in folders:
        found, unreadable = read_folder(folder)
        for reason in unreadable.values():
            raise PresetError(reason)
        presets |= found
    return presets


def read_folder(folder: Path) -> tuple[dict[str, Preset], dict[str, str]]:
    """The presets of a folder by name, in the order of the files' names; and why the others cannot be read.

    Raises:
        PresetError: if the folder is missing or holds no preset file.
    """
    if not (paths := sorted(folder.glob("*.toml"))):
        raise PresetError(f"{folder}: {'no preset files (*.toml) here' if folder.is_dir() else 'no such folder'}")
    presets, unreadable = {}, {}
    for path in paths:
        try:
            presets[path.stem] = read_preset(path)
        except PresetError as error:
            unreadable[path.stem] = str(error)
    return presets, unreadable


def _check_ranges(steps: int, guidance_scale: float) -> None:
    try:
        check_steps(steps)
        check_guidance_scale(guidance_scale)
    except RequestError as error:
        raise ValueError(str(error)) from None
