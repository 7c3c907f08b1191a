"""The engine: one sample of one role, with honest clocks.  The only file of generation that needs torch.

Torch and diffusers are imported when the first weights are loaded, so that a page can start without them.

What is fair, and why it holds:

* Every side starts from the same noise: float32, drawn for each sample by its own CPU generator from the seed alone.
* ``seconds`` runs from text to pixels with nothing else on the device: one run holds it at a time
  (`running.Device`; one for all presets, stricter than one for each base, since bases share cores and clocks).
* The first run of each kind is preceded by an untimed warm-up; previews are taken out of every clock.
* Network evaluations are counted where they happen, in a hook on the denoiser.
"""

from __future__ import annotations

import gc
import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from tdm_core.errors import ConfigError, PresetError, SamplingError
from tdm_core.generation.plan import Plan, make_plan
from tdm_core.generation.presets import Preset, StudentSettings, TeacherSettings
from tdm_core.generation.running import Device
from tdm_core.generation.sample import Progress, Role, Sample, SampleRequest
from tdm_core.generation.watch import Watch

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from tdm_core.backbones.base import OnStep, Size
    from tdm_core.backbones.system import SideSettings, System, Text

PREVIEWS = 5
"""A teacher's run is cut into so many equal parts; what its latents decode to is shown between them."""

Emit = Callable[[Progress], None]
_Kind = tuple[str, bool, bool, int, float]


class Engine:
    """Makes samples of the given presets on one device; records nothing."""

    def __init__(
        self,
        presets: Mapping[str, Preset],
        *,
        device: str = "auto",
        threads: int | None = None,
        offload: Literal["none", "model", "sequential"] | None = None,
        compiled: bool = False,
    ) -> None:
        """
        Args:
            device: auto (the best there is), cpu, mps, cuda or cuda:N.
            threads: CPU threads of one network evaluation; all cores if ``None``.
            offload: goes before the presets' own.
            compiled: make the denoisers' code for this device, which takes a while at the first run of a shape.
        """
        self.presets = presets
        self._device_name = device
        self._threads = threads
        self._offload = offload
        self._compiled = compiled
        self._device = Device()
        self._loading = threading.Lock()
        self._systems: dict[str, System] = {}
        self._warm: set[_Kind] = set()

    @property
    def loaded(self) -> frozenset[str]:
        """The presets whose weights are in memory."""
        return frozenset(self._systems)

    def sample(self, request: SampleRequest, *, previews: bool = True) -> Iterator[Progress | Sample]:
        """Make one sample: ``Progress`` at the start and after each step, then the ``Sample``.

        Closing the generator stops the run at its next step and frees the device.  Waiting students go before
        waiting teachers.

        Raises:
            PresetError: if there is no such preset, or it names what is not there.
            LoadError: if its weights are damaged or do not fit.
            SamplingError: if the run breaks off.
        """
        yield from self._stream(self._prepare([request], show_previews=previews and request.role is Role.TEACHER))

    def trajectory(self, request: SampleRequest, moments: Sequence[float] = ()) -> Iterator[Progress | Sample]:
        """As `sample`, but each ``Progress`` shows what the network takes the finished picture to be at that step.

        Args:
            moments: show only the steps that begin nearest to these times; all steps if there are none.
        """
        yield from self._stream(self._prepare([request], moments=tuple(moments)))

    def _stream(self, run: _Run) -> Iterator[Progress | Sample]:
        def waits(ahead: int) -> Progress:
            return Progress(step=0, steps=run.plan.steps, elapsed_seconds=0.0, ahead=ahead)

        for event in self._device.stream(partial(self._make, run), urgent=run.student, while_waiting=waits):
            yield event[0] if isinstance(event, list) else event

    def sample_batch(self, requests: Sequence[SampleRequest]) -> list[Sample]:
        """Several samples in one batch, each from its own noise: the same pictures as one by one, up to rounding.

        Their clocks are the batch's, divided by its size.

        Raises:
            ValueError: if the requests differ in anything but prompt and seed; otherwise as `sample`.
        """
        *_, made = self.stream_batch(requests)
        assert isinstance(made, list)
        return made

    def stream_batch(self, requests: Sequence[SampleRequest]) -> Iterator[Progress | list[Sample]]:
        """The same with its progress, which is the batch's."""
        run = self._prepare(requests)
        yield from self._device.stream(partial(self._make, run), urgent=run.student)

    def load(self, preset: str) -> None:
        """Load a preset's weights, teacher and student, and run nothing.

        Raises:
            PresetError, LoadError: as `sample`.
        """
        self._prepare([SampleRequest(preset=preset, role=Role.STUDENT, prompt="load", seed=0)])

    def warm_up(self, preset: str) -> None:
        """Load a preset and run each role once, untimed, so that its first visitor need not wait.

        Raises:
            As `sample`.
        """
        for role in Role:
            self.sample_batch([SampleRequest(preset=preset, role=role, prompt="warm-up", seed=0, steps=1)])

    def forget(self, preset: str) -> None:
        """Free what is loaded of a preset that will not be asked for again."""
        self._device.run(lambda _: self._systems.pop(preset, None), urgent=False)

    def _prepare(
        self,
        requests: Sequence[SampleRequest],
        *,
        show_previews: bool = False,
        moments: tuple[float, ...] | None = None,
    ) -> _Run:
        name, role = requests[0].preset, requests[0].role
        preset = self.presets.get(name)
        if preset is None:
            raise PresetError(f"no preset {name!r}; there are: {', '.join(self.presets)}")
        plan, *others = [make_plan(preset, request) for request in requests]
        if any(other != plan for other in others) or any(request.preset != name for request in requests):
            raise ValueError("a batch shares preset, role, steps, guidance and grid")
        system = self._systems.get(name)
        if system is None or (role is Role.STUDENT and not system.has_student):
            with self._loading:  # whoever finds all loaded does not wait for another system's weights
                system = self._systems.get(name) or self._load(preset)
                if role is Role.STUDENT and not system.has_student:
                    # In turn: a teacher may be running on the very layers that the LoRA is put on.
                    self._device.run(partial(self._add_student, system, preset), urgent=True)
        return _Run(
            system=system, preset=preset, plan=plan, requests=requests, show_previews=show_previews, moments=moments
        )

    def _load(self, preset: Preset) -> System:
        import torch

        from tdm_core.backbones.base import family, load_pipeline
        from tdm_core.backbones.system import System

        _refuse_missing(preset, "base", "vae")
        self._threads = self._threads or torch.get_num_threads()
        chosen = family(preset.family)
        device, offload = choose_device(self._device_name), self._offload or preset.offload
        if offload == "none":
            self._make_room(preset, device)
        with _device_errors(), _threads(1):  # a team of threads is for the device's thread alone
            pipeline = load_pipeline(
                chosen.Pipeline,
                preset.local(preset.base) or preset.base,
                dtype=getattr(torch, preset.dtype),
                device=device,
                offload=offload,
                revision=preset.revision,
                variant=preset.variant,
                omit={*preset.omit, *chosen.OMIT},
                vae=preset.vae and (preset.local(preset.vae) or preset.vae),
                vae_slicing=preset.vae_slicing,
                vae_tiling=preset.vae_tiling,
            )
            side = _side(preset.teacher)
            system = System(chosen, pipeline, side, device=device, offload=offload, compiled=self._compiled)
        self._systems[preset.name] = system
        return system

    def _add_student(self, system: System, preset: Preset, _: Emit) -> None:
        _add_student(system, preset)
        if system.compiled:  # the teacher's code was made without the adapter's layers
            self._warm = {kind for kind in self._warm if kind[0] != preset.name}

    def _make_room(self, preset: Preset, device: str) -> None:
        """Let go of the other systems if the device has no room for this one beside them."""
        if self._systems and (preset.memory_gb or 0) > free_gb(device):
            # In turn: one of them may be running.
            self._device.run(lambda _: self._systems.clear(), urgent=True)
            self._warm.clear()
            _empty_cache(device)

    def _make(self, run: _Run, emit: Emit) -> list[Sample]:
        emit(run.progress(0, 0.0))
        with _device_errors(), _threads(self._threads):
            if run.kind not in self._warm:
                run.warm_up()
                self._warm.add(run.kind)
            return run.make(emit)


@dataclass(frozen=True, kw_only=True)
class _Run:
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
    def kind(self) -> _Kind:
        """What decides the shapes of the work, or its compiled code, and so what has to be warm."""
        strength = self.plan.strength if self.system.compiled else 1.0
        return self.plan.preset, self.student, self.plan.guided, len(self.requests), strength

    def make(self, emit: Emit) -> list[Sample]:
        """Text to pixels, timed and counted."""
        import torch

        from tdm_core.backbones.clean import watch_steps

        pipeline = self._pipeline()
        noise, generators = self._noise([request.seed for request in self.requests])
        watch = Watch(getattr(pipeline, self.system.family.DENOISER), synchronize=_synchronizer(self.system.device))

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
            negative_prompt=_side(self._settings).negative_prompt if self.plan.guided else None,
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
            size=self._size,
            generators=generators,
            on_step=on_step,
            options=self._settings.options,
        )
        return self.system.family.sample(pipeline, text.tensors, run)

    @property
    def _size(self) -> Size:
        from tdm_core.backbones.base import Size

        return Size(width=self.preset.width, height=self.preset.height, frames=self.preset.frames)

    def _noise(self, seeds: Sequence[int]) -> tuple[Tensor, list[torch.Generator]]:
        """Start noise [B, ...], float32 on the CPU; each row depends on its seed alone.  And what drew it, to go on."""
        import torch

        shape = self.system.family.latent_shape(self._pipeline(), self._size)
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


def _refuse_missing(preset: Preset, *keys: str) -> None:
    for key, problem in preset.problems().items():
        if key in keys:
            raise PresetError(problem)


def _add_student(system: System, preset: Preset) -> None:
    from tdm_core.backbones.base import fetch_lora
    from tdm_core.backbones.lora_file import TensorList
    from tdm_core.backbones.system import LoraSettings

    if preset.lacks_student():
        raise PresetError(
            f"{preset.name}: nobody publishes this student, and there is none in {preset.student.lora} yet.\n"
            "Distil one (train/README.md), or name a LoRA of yours in a preset of your own."
        )
    _refuse_missing(preset, "student.lora")
    settings = preset.student
    tensor_list = TensorList(**asdict(settings.tensor_list)) if settings.tensor_list else None
    system.add_student(
        preset.lora_file() or fetch_lora(settings.lora, settings.file),
        LoraSettings(
            strength=settings.strength,
            merge=settings.merge,
            alpha_in_file=settings.alpha_in_file,
            tensor_list=tensor_list,
        ),
        _side(settings),
    )


def _side(settings: TeacherSettings | StudentSettings) -> SideSettings:
    from tdm_core.backbones.system import SideSettings

    return SideSettings(
        scheduler=settings.scheduler,
        scheduler_config=settings.scheduler_config,
        negative_prompt=getattr(settings, "negative_prompt", ""),
    )


def choose_device(name: str) -> str:
    """What ``auto`` means on this machine; any other name as it is.

    Raises:
        ConfigError: if torch cannot use the named device.
    """
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        kind = next(kind for kind in ("cuda", "mps", "cpu") if available[kind])
        rank = os.environ.get("LOCAL_RANK")  # set by accelerate launch: each process has a device of its own
        return f"cuda:{rank}" if kind == "cuda" and rank else kind
    if not available[name.partition(":")[0]]:
        raise ConfigError(f"TDM_DEVICE: {name} is not available to torch {torch.__version__}; leave it at auto")
    return name


def free_gb(device: str) -> float:
    """Free memory of a device, in units of 10^9 bytes; of the main memory where the device has none of its own."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(device)[0] / 1e9
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") / 1e9


def _empty_cache(device: str) -> None:
    import torch

    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()


def _synchronizer(device: torch.device) -> Callable[[], None]:
    import torch

    kinds = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}
    return kinds.get(device.type, lambda: None)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """So many CPU threads for the networks that this thread runs."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _device_errors() -> Iterator[None]:
    import torch

    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one; the CPU's allocator has no class of its own
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise SamplingError(
                "The device has too little memory for this system.\n"
                "Stop other programs, set TDM_OFFLOAD=model (or sequential), or choose a smaller preset."
            ) from error
        raise
