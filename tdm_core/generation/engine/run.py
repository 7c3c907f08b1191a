"""One run on a loaded system: text to pixels for requests that share a plan, timed and counted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tdm_core.errors import SamplingError
from tdm_core.generation.engine.devices import synchronizer
from tdm_core.generation.plan import Plan
from tdm_core.generation.presets import Preset, StudentSettings, TeacherSettings
from tdm_core.generation.sample import Progress, Role, Sample, SampleRequest
from tdm_core.generation.watch import Watch

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from tdm_core.backbones.base import OnStep, Size
    from tdm_core.backbones.system import LoraSettings, SideSettings, System, Text

PREVIEWS = 5
"""A teacher's run is cut into so many equal parts; what its latents decode to is shown between them."""

Emit = Callable[[Progress], None]
Kind = tuple[str, bool, bool, int, float]


@dataclass(frozen=True, kw_only=True)
class SampleRun:
    """Requests that share a plan, on the system of their preset."""

    system: System
    preset: Preset
    plan: Plan
    requests: Sequence[SampleRequest]
    show_previews: bool = False
    moments: tuple[float, ...] | None = None
    """Of a trajectory; ``None`` where none is wanted."""

    @property
    def student(self) -> bool:
        return self.plan.role is Role.STUDENT

    @property
    def kind(self) -> Kind:
        """What decides the shapes of the work, or its compiled code, and so what has to be warm."""
        strength = self.plan.strength if self.system.compiled else 1.0
        return self.plan.preset, self.student, self.plan.guided, len(self.requests), strength

    @property
    def denoiser(self) -> Any:
        return getattr(self._pipeline(), self.system.family.DENOISER)

    def make(self, emit: Emit) -> list[Sample]:
        """Text to pixels, timed and counted."""
        import torch

        from tdm_core.backbones.clean import watch_steps

        pipeline = self._pipeline()
        noise, generators = self._noise([request.seed for request in self.requests])
        watch = Watch(self.denoiser, synchronize=synchronizer(self.system.device))

        def on_step(step: int, latents: Tensor) -> None:
            seconds = watch.lap()
            time = steps.times[-1] if steps else None
            if steps and steps.clean is not None:
                latents = steps.clean.to(latents)
            with watch.paused():
                wanted = self._is_preview(step) if steps is None else self._is_moment(step)
                preview = self.system.family.preview(pipeline, latents[:1])[0] if wanted else None
            emit(self.progress(step, seconds, preview, time))

        if pipeline.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pipeline.device)
        follow = nullcontext() if self.moments is None else watch_steps(pipeline.scheduler)
        with follow as steps, watch:
            text = self._encode()
            watch.charge(text.saved_seconds)
            latents = self._denoise(text, noise, generators, steps=self.plan.steps, on_step=on_step)
            pixels = self.system.family.decode(pipeline, latents)
        if not latents.isfinite().all():
            raise SamplingError(
                f"{self.preset.name}: the picture holds no numbers (NaN).\nTry the preset's dtype float32."
            )
        size = len(self.requests)
        on_cuda = pipeline.device.type == "cuda"
        memory_mb = torch.cuda.max_memory_allocated(pipeline.device) / 2**20 if on_cuda else None
        return [
            Sample(
                media=pixels[index],
                kind=self.preset.media,
                steps=self.plan.steps,
                nfe=watch.rows // size,
                guidance_scale=self.plan.guidance_scale,
                scheduler=type(pipeline.scheduler).__name__,
                seconds=watch.seconds / size,
                denoiser_seconds=watch.denoiser_seconds / size,
                text_seconds=watch.text_seconds / size,
                device_memory_mb=memory_mb,
                noise_sha256=hashlib.sha256(noise[index].numpy().tobytes()).hexdigest(),
                sigmas=self.plan.sigmas or (),
                unread=self.system.unread(request.prompt, max_sequence_length=self.preset.max_sequence_length),
                trained=self.plan.trained,
                batch_size=size,
            )
            for index, request in enumerate(self.requests)
        ]

    def warm_up(self) -> None:
        """One step of the same shapes, untimed."""
        noise, generators = self._noise([0] * len(self.requests))
        with self.system.forgetting_text():
            latents = self._denoise(self._encode(), noise, generators, steps=1, on_step=lambda *_: None)
        self.system.family.decode(self._pipeline(), latents)

    def progress(
        self, step: int, seconds: float, preview: np.ndarray | None = None, time: float | None = None
    ) -> Progress:
        return Progress(step=step, steps=self.plan.steps, elapsed_seconds=seconds, preview=preview, time=time)

    def _pipeline(self) -> Any:
        return self.system.pipeline(student=self.student, flow_shift=self.plan.flow_shift, strength=self.plan.strength)

    @property
    def _settings(self) -> TeacherSettings | StudentSettings:
        return self.preset.student if self.student else self.preset.teacher

    def _encode(self) -> Text:
        return self.system.encode(
            [request.prompt for request in self.requests],
            negative_prompt=side_settings(self._settings).negative_prompt if self.plan.guided else None,
            max_sequence_length=self.preset.max_sequence_length,
        )

    def _denoise(
        self, text: Text, noise: Tensor, generators: Sequence[torch.Generator], *, steps: int, on_step: OnStep
    ) -> Tensor:
        from tdm_core.backbones.base import Run

        pipeline = self._pipeline()
        run = Run(
            noise=noise,
            steps=steps,
            guidance_scale=self.plan.guidance_scale,
            times=self.plan.sigmas and self.plan.sigmas[:steps],
            size=size_of(self.preset),
            generators=generators,
            on_step=on_step,
            options=self._settings.options,
        )
        return self.system.family.sample(pipeline, text.tensors, run)

    def _noise(self, seeds: Sequence[int]) -> tuple[Tensor, list[torch.Generator]]:
        """Start noise [B, ...], float32 on the CPU; each row depends on its seed alone.  And what drew it, to go on."""
        import torch

        shape = self.system.family.latent_shape(self._pipeline(), size_of(self.preset))
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        return torch.stack([torch.randn(shape, generator=generator) for generator in generators]), generators

    def _is_moment(self, step: int) -> bool:
        from tdm_core.backbones.clean import step_times

        if not self.moments:
            return True
        times = step_times(self._pipeline().scheduler)
        nearest = {min(range(len(times)), key=lambda index: abs(times[index] - moment)) for moment in self.moments}
        return step - 1 in nearest

    def _is_preview(self, step: int) -> bool:
        steps = self.plan.steps
        return self.show_previews and step < steps and PREVIEWS * step // steps > PREVIEWS * (step - 1) // steps


def side_settings(settings: TeacherSettings | StudentSettings) -> SideSettings:
    """What a system wants to know of a preset's side."""
    from tdm_core.backbones.system import SideSettings

    return SideSettings(
        scheduler=settings.scheduler,
        scheduler_config=settings.scheduler_config,
        negative_prompt=getattr(settings, "negative_prompt", ""),
    )


def lora_settings(settings: StudentSettings) -> LoraSettings:
    """How the student's LoRA is read and put on."""
    from tdm_core.backbones.lora_file import TensorList
    from tdm_core.backbones.system import LoraSettings

    return LoraSettings(
        strength=settings.strength,
        merge=settings.merge,
        alpha_in_file=settings.alpha_in_file,
        tensor_list=TensorList(**asdict(settings.tensor_list)) if settings.tensor_list else None,
    )


def size_of(preset: Preset) -> Size:
    """Of each sample of a preset."""
    from tdm_core.backbones.base import Size

    return Size(width=preset.width, height=preset.height, frames=preset.frames)
