"""The engine on Ray Serve: replicas that each hold a device, batching of their own, the same pictures.

``TDM_REPLICAS=2 make run`` is all: without a cluster Ray starts one on this machine; ``RAY_ADDRESS`` names another,
whose machines must see the same folders of models.  A replica takes one GPU where there is one, else ``TDM_THREADS``
cores.  A request whose replica dies is asked again of another; what it had shown begins anew, and ends in the same
picture, since that follows from the request.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, Literal

from tdm_core.errors import ConfigError, SamplingError, TDMError
from tdm_core.generation.batching import LARGEST, Batcher
from tdm_core.generation.engine import Engine
from tdm_core.generation.presets import PROJECT, Preset
from tdm_core.generation.sample import Progress, Sample, SampleRequest

APP = "tdm"
TRIES = 3
MOMENT_SECONDS = 0.1

logger = logging.getLogger("tdm")


class Replica:
    """One engine with its batcher, in a process of its own; Ray makes it."""

    def __init__(self, presets: Mapping[str, Preset], options: Mapping[str, Any], warm: str | None) -> None:
        self._engine = Engine(presets, **options)
        self._batcher = Batcher(self._engine)
        if warm:
            self._engine.warm_up(warm)

    async def sample(self, request: SampleRequest) -> AsyncIterator[Progress | Sample]:
        events, sent = self._batcher.sample(request), time.monotonic()
        try:
            while (event := await asyncio.to_thread(_next, events, sent)) is not None:
                yield event
                sent = time.monotonic()
        finally:
            await asyncio.shield(asyncio.to_thread(_close, events))

    async def sample_batch(self, requests: Sequence[SampleRequest]) -> list[Sample]:
        return await asyncio.to_thread(self._engine.sample_batch, requests)

    async def process(self) -> int:
        """The replica's process id."""
        return os.getpid()


class RayEngine:
    """`Engine`'s protocol over replicas; deployed when it is first used."""

    def __init__(
        self,
        presets: Mapping[str, Preset],
        *,
        replicas: int,
        device: str = "auto",
        threads: int | None = None,
        offload: Literal["none", "model", "sequential"] | None = None,
        compiled: bool = False,
    ) -> None:
        """
        Raises:
            ConfigError: if Ray is not installed.
        """
        try:
            self._ray, self._serve = import_module("ray"), import_module("ray.serve")
        except ImportError as error:
            raise ConfigError(
                f"TDM_REPLICAS: needs Ray Serve ({error}).\nInstall it with: pip install 'ray[serve]'"
            ) from None
        self._presets, self._replicas, self._threads = presets, replicas, threads
        self._options = {"device": device, "threads": threads, "offload": offload, "compiled": compiled}
        self._deploying = threading.Lock()
        self._handle: Any = None

    def sample(self, request: SampleRequest) -> Iterator[Progress | Sample]:
        """As `Engine.sample`, from whichever replica has the shortest queue.

        Raises:
            As `Engine.sample`; SamplingError also if replicas died again and again.
        """
        handle = self._deployed().options(stream=True)
        for tried in range(1, TRIES + 1):
            events = handle.sample.remote(request)
            try:
                yield from events
                return
            except GeneratorExit:
                events.cancel()
                raise
            except self._ray.exceptions.RayTaskError as error:
                raise _cause(error) from None
            except self._ray.exceptions.RayError as error:
                self._tell(error, tried)

    def sample_batch(self, requests: Sequence[SampleRequest]) -> list[Sample]:
        """As `Engine.sample_batch`."""
        for tried in range(1, TRIES + 1):
            try:
                made: list[Sample] = self._deployed().sample_batch.remote(list(requests)).result()
                return made
            except self._ray.exceptions.RayTaskError as error:
                raise _cause(error) from None
            except self._ray.exceptions.RayError as error:
                self._tell(error, tried)
        raise AssertionError("the last try tells its error")

    def warm_up(self, preset: str) -> None:
        """Start the replicas, each with this preset loaded and warm."""
        self._deployed(warm=preset)

    def close(self) -> None:
        """End the replicas; a cluster that was started here ends with this process."""
        if self._handle is not None:
            self._serve.shutdown()
            self._ray.shutdown()
            self._handle = None

    def _deployed(self, warm: str | None = None) -> Any:
        with self._deploying:
            if self._handle is None:
                self._handle = self._deploy(warm)
            return self._handle

    def _deploy(self, warm: str | None) -> Any:
        ray, serve = self._ray, self._serve
        if not ray.is_initialized():
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody unless asked for
            environment = {"env_vars": {"PYTHONPATH": str(PROJECT)}}
            ray.init(include_dashboard=False, log_to_driver=False, runtime_env=environment)
        serve.start(proxy_location="Disabled")  # pages ask through this process; nothing listens elsewhere
        on_gpu = self._options["device"] != "cpu" and ray.cluster_resources().get("GPU", 0) >= self._replicas
        deployment = serve.deployment(
            Replica,
            num_replicas=self._replicas,
            max_ongoing_requests=2 * LARGEST,
            ray_actor_options={"num_gpus": 1} if on_gpu else {"num_cpus": self._threads or 1},
        )
        return serve.run(deployment.bind(self._presets, self._options, warm), name=APP, route_prefix=None)

    def _tell(self, error: Exception, tried: int) -> None:
        """A replica died: once more, until it is enough."""
        logger.warning("a replica was lost (%s); try %d of %d", type(error).__name__, tried, TRIES)
        if tried == TRIES:
            raise SamplingError(
                "The machine that made this picture was lost again and again; try once more."
            ) from error


def _next(events: Iterator[Progress | Sample], sent: float) -> Progress | Sample | None:
    """The next event that is worth its way: a sample, a preview, or progress a moment after the last or the start.

    Sending a step of a mini's student costs more than the step.
    """
    for event in events:
        if isinstance(event, Sample) or event.preview is not None or time.monotonic() - sent > MOMENT_SECONDS:
            return event
    return None


def _close(events: Any) -> None:
    """End a generator that a thread may still be in: who asked has gone, but its step goes on to its end."""
    while True:
        try:
            return events.close()
        except ValueError:  # it is executing
            time.sleep(0.05)


def _cause(error: Any) -> Exception:
    """What the replica raised, without Ray's account of it; a bug keeps that."""
    return error.cause if isinstance(error.cause, TDMError | ValueError) else error
