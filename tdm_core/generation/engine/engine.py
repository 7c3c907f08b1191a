"""The engine: one sample of one role, with honest clocks.

Torch and diffusers are imported when the first weights are loaded, so that a page can start without them.

What is fair, and why it holds:

* Every side starts from the same noise: float32, drawn for each sample by its own CPU generator from the seed alone.
* ``seconds`` runs from text to pixels with nothing else on the device: one run holds it at a time
  (`running.Device`; one for all presets, stricter than one for each base, since bases share cores and clocks).
* The first run of each kind is preceded by an untimed warm-up; previews are taken out of every clock.
* Network evaluations are counted where they happen, in a hook on the denoiser.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from tdm_core.errors import PresetError
from tdm_core.generation.engine.ahead import Ahead, Compiler, compile_ahead, forward
from tdm_core.generation.engine.checks import told_of
from tdm_core.generation.engine.devices import choose_device, device_errors, empty_cache, free_gb, threads
from tdm_core.generation.engine.run import Emit, Kind, SampleRun, lora_settings, side_settings, size_of
from tdm_core.generation.plan import make_plan
from tdm_core.generation.presets import Preset
from tdm_core.generation.running import Device
from tdm_core.generation.sample import Progress, Role, Sample, SampleRequest

if TYPE_CHECKING:
    from tdm_core.backbones.system import System


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
        self._warm: set[Kind] = set()

    @property
    def loaded(self) -> frozenset[str]:
        """The presets whose weights are in memory."""
        return frozenset(self._systems)

    def sample(self, request: SampleRequest, *, previews: bool = True) -> Iterator[Progress | Sample]:
        """Make one sample: ``Progress`` at the start and after each step, then the ``Sample``.

        Closing the generator stops the run at its next step and frees the device.  Waiting students go before
        waiting teachers.

        Raises:
            PresetError: if there is no such preset, or it names or asks for what is not there.
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

    def _stream(self, run: SampleRun) -> Iterator[Progress | Sample]:
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

    def compile_ahead(self, preset: str, compiler: Compiler) -> list[Ahead]:
        """Code for both sides' denoisers, one sample at a time as the preset has it; `use_ahead` puts it to use.

        The two may happen in different processes.
        """
        runs = [
            self._prepare([SampleRequest(preset=preset, role=role, prompt="compile", seed=0)])
            for role in (Role.TEACHER, Role.STUDENT)
        ]
        return self._device.run(lambda _: compile_ahead(runs, compiler), urgent=True)

    def use_ahead(self, preset: str, made: Sequence[Ahead]) -> None:
        """From now on run a loaded preset's sides by this code."""
        system = self._systems[preset]
        self._device.run(
            lambda _: system.use_forward({side.student: partial(forward, ahead=side) for side in made}), urgent=True
        )

    def forget(self, preset: str) -> None:
        """Free what is loaded of a preset that will not be asked for again."""
        self._device.run(lambda _: self._systems.pop(preset, None), urgent=False)

    def _prepare(
        self,
        requests: Sequence[SampleRequest],
        *,
        show_previews: bool = False,
        moments: tuple[float, ...] | None = None,
    ) -> SampleRun:
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
        return SampleRun(
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
        with told_of(preset, "base"), device_errors(), threads(1):  # a team of threads is for the device's thread alone
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
        with told_of(preset, "width, height, frames"):
            chosen.latent_shape(pipeline, size_of(preset))
        with told_of(preset, "teacher"), device_errors(), threads(1):
            side = side_settings(preset.teacher)
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
            empty_cache(device)

    def _make(self, run: SampleRun, emit: Emit) -> list[Sample]:
        emit(run.progress(0, 0.0))
        with told_of(run.preset, "student" if run.student else "teacher"), device_errors(), threads(self._threads):
            if run.kind not in self._warm:
                run.warm_up()
                self._warm.add(run.kind)
            return run.make(emit)


def _refuse_missing(preset: Preset, *keys: str) -> None:
    for key, problem in preset.problems().items():
        if key in keys:
            raise PresetError(problem)


def _add_student(system: System, preset: Preset) -> None:
    from tdm_core.backbones.base import fetch_lora

    if preset.lacks_student():
        raise PresetError(
            f"{preset.name}: nobody publishes this student, and there is none in {preset.student.lora} yet.\n"
            "Distil one (train/README.md), or name a LoRA of yours in a preset of your own."
        )
    _refuse_missing(preset, "student.lora")
    settings = preset.student
    file = preset.lora_file() or fetch_lora(settings.lora, settings.file)
    with told_of(preset, "student"):
        system.add_student(file, lora_settings(settings), side_settings(settings))
