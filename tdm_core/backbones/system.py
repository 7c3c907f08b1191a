"""A system on a device: one base with its two sides, teacher and student, each with a scheduler of its own."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tdm_core.backbones.base import Family, Offload, compile_blocks, start_offload, unread
from tdm_core.backbones.lora import add_lora, fold_lora, scale_lora, switch_role
from tdm_core.backbones.lora_file import LoraLayer, TensorList, read_lora
from tdm_core.backbones.schedulers import make_scheduler
from tdm_core.errors import ConfigError

REMEMBERED_PROMPTS = 64


@dataclass(frozen=True, kw_only=True)
class SideSettings:
    """How one side is sampled, beyond its weights."""

    scheduler: str | None = None
    scheduler_config: Mapping[str, Any] = field(default_factory=dict)
    negative_prompt: str = ""


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """How the student's LoRA is read and put on; see `StudentSettings` of the presets."""

    strength: float = 1.0
    merge: bool = False
    alpha_in_file: bool | None = None
    tensor_list: TensorList | None = None


def read_student(file: Path, model: Any, lora: LoraSettings, *, prefix: str) -> dict[str, LoraLayer]:
    """The layers of a student's LoRA on this denoiser, which may be one without weights.

    Raises:
        LoadError, ConfigError: as `read_lora`; or if its alpha is not where the preset's strength takes it to be.
    """
    layers = read_lora(file, model, prefix=prefix, tensor_list=lora.tensor_list)
    with_alpha = sum(layer.alpha is not None for layer in layers.values())
    if lora.alpha_in_file is not None and with_alpha != lora.alpha_in_file * len(layers):
        raise ConfigError(
            f"{file}: {with_alpha} of its {len(layers)} layers bring an alpha, which the preset's strength "
            f"{lora.strength:g} does not reckon with.\nName the right file, or mend strength and alpha_in_file."
        )
    return layers


@dataclass(frozen=True)
class _Side:
    pipeline: Any
    settings: SideSettings
    scheduler: Any


@dataclass(frozen=True)
class Text:
    """Prompts as the denoiser takes them."""

    tensors: Mapping[str, Tensor]
    saved_seconds: float
    """What encoding took when it was done, where it was not done now."""


class System:
    """Both sides share all weights but those that the student's LoRA changes, and the text.  One run at a time."""

    def __init__(
        self,
        family: Family,
        pipeline: Any,
        settings: SideSettings,
        *,
        device: str,
        offload: Offload = "none",
        compiled: bool = False,
    ) -> None:
        self.family = family
        self.device = torch.device(device)
        """Where the denoiser runs, whether or not it waits elsewhere."""
        self._offload = offload
        self.compiled = compiled
        self._saved_scheduler = pipeline.scheduler
        self._teacher = _Side(pipeline, settings, self._scheduler(settings))
        self._student: _Side | None = None
        self._lora: tuple[Mapping[str, LoraLayer], LoraSettings] | None = None
        self._strength = 1.0
        self._forward: Mapping[bool, Callable[[Any], Callable[..., Any]]] = {}
        self._active: tuple[_Side, float | None] | None = None
        self._encoded: OrderedDict[tuple[str, int | None, bool], tuple[dict[str, Tensor], float]] = OrderedDict()
        start_offload(pipeline, self.device, offload)
        if compiled:
            compile_blocks(getattr(pipeline, family.DENOISER))

    @property
    def has_student(self) -> bool:
        return self._student is not None

    def add_student(self, file: Path, lora: LoraSettings, settings: SideSettings) -> None:
        """Load the student's LoRA: folded into a second copy of the denoiser, or beside the weights of the one.

        Raises:
            LoadError, ConfigError: if it does not fit in full; the teacher is as it was before.
        """
        teacher, denoiser = self._teacher.pipeline, self.family.DENOISER
        scheduler = self._scheduler(settings)
        model = getattr(teacher, denoiser)
        layers = read_student(file, model, lora, prefix=denoiser)
        pipeline, offloaded = teacher, self._offload != "none"
        if offloaded:
            teacher.remove_all_hooks()  # they know the layers that were there; and two copies would not fit
        if lora.merge and not offloaded:
            folded = self._fold(model, layers, strength=lora.strength)
            pipeline = type(teacher)(**{**teacher.components, denoiser: folded})
            pipeline.set_progress_bar_config(disable=True)
        else:
            add_lora(model, layers, strength=lora.strength)
        start_offload(pipeline, self.device, self._offload)
        self._student = _Side(pipeline, settings, scheduler)
        self._lora = layers, lora
        self._active = None

    def pipeline(self, *, student: bool, flow_shift: float | None = None, strength: float = 1.0) -> Any:
        """The pipeline, made ready to run as one of the sides until the next call.

        Args:
            flow_shift: in the place of the one in the side's settings.
            strength: of the student's LoRA, in units of its settings'.
        """
        if student and strength != self._strength:
            self._set_strength(strength)
        side = self._student if student else self._teacher
        assert side is not None, "the student is loaded before it is asked for"
        if (side, flow_shift) != self._active:  # looking for the adapter's layers takes longer than a mini's step
            changed = flow_shift is not None
            side.pipeline.scheduler = (
                self._scheduler(side.settings, flow_shift=flow_shift) if changed else side.scheduler
            )
            denoiser = getattr(side.pipeline, self.family.DENOISER)
            switch_role(denoiser, student=student)
            denoiser.__dict__.pop("forward", None)
            if student in self._forward and (not student or strength == 1.0):  # the code has its weights in it
                denoiser.forward = self._forward[student](denoiser)
            self._active = (side, flow_shift)
        return side.pipeline

    def use_forward(self, by_side: Mapping[bool, Callable[[Any], Callable[..., Any]]]) -> None:
        """What makes another ``forward`` for the denoiser of a side, the student's under True."""
        self._forward, self._active = by_side, None

    def _set_strength(self, strength: float) -> None:
        assert self._student is not None and self._lora is not None, "the student is loaded before it is asked for"
        layers, lora = self._lora
        pipeline, denoiser = self._student.pipeline, self.family.DENOISER
        if pipeline is self._teacher.pipeline:
            scale_lora(getattr(pipeline, denoiser), layers, strength=lora.strength * strength)
        else:
            base = getattr(self._teacher.pipeline, denoiser)
            setattr(pipeline, denoiser, self._fold(base, layers, strength=lora.strength * strength))
        self._strength, self._active = strength, None

    def _fold(self, base: Any, layers: Mapping[str, LoraLayer], *, strength: float) -> Any:
        folded = fold_lora(base, layers, strength=strength)
        if self.compiled:
            compile_blocks(folded)
        return folded

    def _scheduler(self, settings: SideSettings, **changes: Any) -> Any:
        return make_scheduler(self._saved_scheduler, settings.scheduler, {**settings.scheduler_config, **changes})

    @contextmanager
    def forgetting_text(self) -> Iterator[None]:
        """What is encoded inside is encoded anew afterwards: a cold encoding's time is nobody's."""
        known = set(self._encoded)
        try:
            yield
        finally:
            for key in self._encoded.keys() - known:
                del self._encoded[key]

    def encode(self, prompts: Sequence[str], *, negative_prompt: str | None, max_sequence_length: int | None) -> Text:
        """Arguments of the stock pipeline for these prompts [B, ...], encoded once for all roles.

        Args:
            negative_prompt: what to guide away from; ``None`` without guidance.
        """
        saved = self._encode_new(prompts, max_sequence_length, negative=False)
        rows = [self._encoded[prompt, max_sequence_length, False][0] for prompt in prompts]
        tensors = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
        if negative_prompt is not None:
            saved += self._encode_new([negative_prompt], max_sequence_length, negative=True)
            row, _ = self._encoded[negative_prompt, max_sequence_length, True]
            tensors |= {
                f"negative_{name}": tensor.expand(len(prompts), *tensor.shape[1:]) for name, tensor in row.items()
            }
        while len(self._encoded) > REMEMBERED_PROMPTS:
            self._encoded.popitem(last=False)
        return Text(tensors, saved)

    def unread(self, prompt: str, *, max_sequence_length: int | None) -> str:
        """The end of a prompt that no text encoder of the system reads."""
        tokens = self.family.T5_TOKENS if max_sequence_length is None else max_sequence_length
        return unread(self._teacher.pipeline, prompt, t5_tokens=tokens)

    def _encode_new(self, prompts: Sequence[str], max_sequence_length: int | None, *, negative: bool) -> float:
        """Encode what is not remembered, in one batch; returns the seconds that remembering saved."""
        keys = {prompt: (prompt, max_sequence_length, negative) for prompt in prompts}
        saved = sum(self._encoded[key][1] for key in keys.values() if key in self._encoded)
        new = [prompt for prompt, key in keys.items() if key not in self._encoded]
        if new:
            start = self._now()
            found = self.family.encode(
                self._teacher.pipeline, new, max_sequence_length=max_sequence_length, negative=negative
            )
            seconds = (self._now() - start) / len(new)
            for index, prompt in enumerate(new):
                row = {name: tensor[index : index + 1] for name, tensor in found.items()}
                self._encoded[keys[prompt]] = row, seconds
        for key in keys.values():
            self._encoded.move_to_end(key)
        return saved

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
