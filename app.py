"""The composition root: settings -> engine, store, study -> page.  `python app.py` serves it.

The page answers before torch is imported: weights load in a background thread, which then builds the bank of the
blind study and gives way to visitors.  Everything that is written lies under ``TDM_DATA_DIR``.
"""

from __future__ import annotations

import logging
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.random import default_rng

from benchmarks.readme import cells_of, newest
from benchmarks.rows import load
from tdm_core.errors import ConfigError, LoadError, TDMError
from tdm_core.generation.durations import read_fits, seconds_of
from tdm_core.generation.plan import student_grids
from tdm_core.generation.presets import PROJECT, Preset
from tdm_core.generation.readiness import Machine, lacks_only_a_download, reasons
from tdm_core.generation.sample import Progress, Sample, Sampler, SampleRequest
from tdm_core.generation.students import Students
from tdm_core.generation.visitors import Visitors
from tdm_core.logs import start_logging
from tdm_core.scenes import grammar
from tdm_core.scenes.moving import grammar as moving
from tdm_core.scenes.moving.sampling import sample_clip
from tdm_core.scenes.sampling import sample_scene
from tdm_core.settings import Settings, rents_its_gpu
from tdm_core.storage import Rounds, SegmentWriter, machine_secret
from tdm_core.study import StudyService
from tdm_core.study.quiz import Quiz
from tdm_core.training.live_runs import Event, LiveRuns, Wish
from tdm_core.wiring import Wiring

if TYPE_CHECKING:
    from tdm_core.ui.inputs import System, Trajectory
    from tdm_core.ui.report import Table

PRIVATE_NAMES = (
    "study.sqlite3",
    "study.sqlite3-wal",
    "study.sqlite3-shm",
    "secret",
    "bank",
    "studies",
    "quiz",
    "students",
)
HUB_SECONDS = 60.0  # between two commits
COMPILE_SECONDS = 1200  # of ZeroGPU, once; the longest that it lends
KEEP_ALIVE_SECONDS = 75
"""Longer than proxies keep their connections (60 s are usual): with uvicorn's 5 s a vote may meet a closing one."""
SUGGESTIONS, LONGEST_SUGGESTION = 6, 34
LOOK_AGAIN_SECONDS = 10.0
LOOK_FOR_SIGNALS_SECONDS = 0.25
SCENE_WORDS = {
    "things": tuple(grammar.KINDS),
    "counts": grammar.COUNTS,
    "places": tuple(grammar.Relation),
    "tiles": tuple(f"on {color}" for color in grammar.TILES),
    "canvas": tuple(f"on a {color} canvas" for color in grammar.CANVASES),
}
MOVING_WORDS = {
    "things": SCENE_WORDS["things"],
    "moves": ("standing still", *(f"moving {direction}" for direction in moving.Direction)),
    "pace": tuple(speed for speed in moving.Speed if speed),
    "canvas": SCENE_WORDS["canvas"],
}

Events = Iterator[Progress | Sample]

logger = logging.getLogger("tdm")


def main() -> int:
    """Serve until told to stop; the exit status."""
    try:
        settings = Settings.from_env()
        start_logging(settings.logs)
        serve(settings)
    except TDMError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except OSError as error:  # the port is taken, a folder cannot be made
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # before the page was up
        return 130
    return 0


def serve(settings: Settings) -> None:
    wiring = Wiring(settings)
    if recovered := wiring.recover(settings.study):
        logger.info("%d votes were recovered from the Hub", recovered, extra={"event": "recovered", "votes": recovered})
    for reason in wiring.unreadable.values():
        logger.error("%s", reason, extra={"event": "preset left out"})
    service = wiring.study(settings.study)
    preset = wiring.study_preset(service.rules.preset)
    if broken := wiring.store.problems(settings.study):
        logger.error("the study is paused: %s (all findings: study verify %s)", broken[0], settings.study)
        service.pause(f"The stored votes do not hold together, so the study is paused: {broken[0]}.")
    segments = SegmentWriter(wiring.store, settings.study, wiring.study_folder(settings.study) / "segments")
    if service.rules.identity == "hf":
        from tdm_core.ui.login import check_login

        check_login()
    hub = wiring.hub(settings.study)
    uploads = Rounds(partial(hub.push, wiring.store), what="hub", every_seconds=HUB_SECONDS) if hub else None
    visitors = Visitors(sampler(wiring, preset))
    quiz = None if rents_its_gpu() else wiring.quiz(preset)  # nobody else makes its pairs
    warm = threading.Event()

    def prepare() -> None:
        """Load the weights, then make the pairs that the study still lacks."""
        try:
            if rents_its_gpu():  # outside of a visitor's request there is no device to run on
                logger.info("%s is loaded; on ZeroGPU a study's pairs are made elsewhere", preset.title)
                return
            begun = time.monotonic()
            wiring.served.warm_up(preset.name)
            warm.set()
            seconds = round(time.monotonic() - begun, 2)
            logger.info("%s is loaded", preset.title, extra={"event": "loaded", "seconds": seconds})
            for _ in wiring.build_bank(settings.study, service, visitors.sample_politely):
                pass
            logger.info("the study's pairs are complete", extra={"event": "pairs complete"})
            for _ in wiring.build_quiz(quiz, visitors.sample_politely) if quiz else ():
                pass
        except TDMError as error:
            logger.error("%s", error)
        finally:
            warm.set()  # a page must not say "loading" for ever; its own request will tell what is wrong

    lessons = Lessons(wiring, preset) if offers_lessons(settings, preset) else None
    page = build_page(wiring, preset, visitors, service, warm, lessons, has_quiz=quiz is not None)
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        signal.alarm(0)  # Ray's own handler, which comes first and prints a trace, would abort in 3 s
        stopping = True

    def heed_signals() -> None:
        for each in (signal.SIGTERM, signal.SIGINT):  # Python's own interrupt could cut the closing below short
            if signal.getsignal(each) is not signal.SIG_IGN:  # a shell's background job is not to be interrupted
                signal.signal(each, stop)

    heed_signals()  # the page answers before its launch is over
    launch(page, settings, service, quiz)
    heed_signals()  # once more: a launch may set its own
    threading.Thread(target=prepare, name="tdm-prepare", daemon=True).start()
    # Whatever waits on a lock can miss signals that come close together: an Event did, and a SimpleQueue (docs/log.md).
    while not stopping:
        time.sleep(LOOK_FOR_SIGNALS_SECONDS)
    if lessons:
        lessons.runs.close()
    page.close()
    segments.close()
    if uploads:
        uploads.close()
    wiring.close()


def sampler(wiring: Wiring, preset: Preset) -> Sampler:
    """What makes the page's pictures; on ZeroGPU each rents a GPU for as long as the bench says it takes."""
    if not rents_its_gpu():
        return wiring.served.sample
    import spaces  # before torch, and nowhere else

    wiring.engine.load(preset.name)  # in this process, so that the ones it forks for each sample find it loaded
    if wiring.settings.compile == "on":

        def compile_ahead() -> Any:
            return wiring.engine.compile_ahead(preset.name, spaces)

        made = spaces.GPU(duration=COMPILE_SECONDS)(compile_ahead)()
        wiring.engine.use_ahead(preset.name, made)
        logger.info("%s is compiled", preset.title, extra={"event": "compiled"})

    return rented(wiring.engine.sample, wiring)


def rented(make: Callable[..., Events], wiring: Wiring) -> Callable[..., Events]:
    """Each call of ``make``, whose first argument is a request, with a GPU of ZeroGPU's for as long as it needs one."""
    import spaces

    seconds = seconds_of(wiring.presets, read_fits())

    def made(*asked: Any) -> Events:
        yield from make(*asked)

    with_gpu: Callable[..., Events] = spaces.GPU(duration=lambda request, *_: seconds(request))(made)
    return with_gpu


class Lessons:
    """Live distillations of a mini, and the students that come of them."""

    def __init__(self, wiring: Wiring, preset: Preset) -> None:
        base = preset.local(preset.base)
        command = [sys.executable, "-m", "train.live", str(recipe(preset)), "--set", f"base.path={base}", "--out"]
        self.runs = LiveRuns(command, cwd=PROJECT)
        folder = wiring.settings.data_dir / "students"
        self.students = Students(folder, wiring.presets, preset, forget=wiring.engine.forget)

    def learn(self, wish: Callable[[], Wish]) -> Iterator[Event]:
        """A run's events; its student is offered before the last one is told."""
        folder = self.students.new_folder()
        try:
            with closing(self.runs.watch(wish, folder)) as events:
                for event in events:
                    if event["kind"] == "end":
                        event |= {"preset": self.students.add(folder).name}
                    yield event
        finally:
            with suppress(OSError):  # not empty: a student was made
                folder.rmdir()


def recipe(preset: Preset) -> Path:
    """How its student is taught before a visitor's eyes."""
    return PROJECT / "train" / "configs" / f"{preset.name}-live.toml"


def offers_lessons(settings: Settings, preset: Preset) -> bool:
    is_wanted = settings.live == "on" or (settings.live == "auto" and "SPACE_ID" not in os.environ)
    return is_wanted and recipe(preset).is_file() and preset.local(preset.base) is not None


def build_page(
    wiring: Wiring,
    preset: Preset,
    visitors: Visitors,
    service: StudyService,
    warm: threading.Event,
    lessons: Lessons | None,
    *,
    has_quiz: bool,
) -> Any:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str((wiring.settings.data_dir / "pictures").resolve())
    from tdm_core.ui.inputs import PageInputs
    from tdm_core.ui.page import build

    own = choice(preset)
    return build(
        PageInputs(
            preset=preset,
            sample=visitors.sample,
            suggest=own.suggest,
            unknown_words=own.unknown_words,
            trained_steps=own.trained_steps(),
            vocabulary=own.vocabulary,
            results=partial(service.results, by_visitor=True),
            gallery=service.gallery,
            is_ready=warm.is_set,
            reports=wiring.reports(),
            bars=benchmark_tables(),
            learn=lessons and lessons.learn,
            students=lessons.students.all if lessons else dict,
            others=[choice(other) for name, other in wiring.presets.items() if name != preset.name],
            why_not=readiness(wiring),
            trajectory=trajectory(wiring, visitors),
            machine=f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
            has_quiz=has_quiz,
            asks_login=service.rules.identity == "hf",
        )
    )


def choice(preset: Preset) -> System:
    """A preset with what the page wants to know of it: the minis' worlds have a grammar."""
    from tdm_core.ui.inputs import System

    is_mini, is_video = preset.name.startswith("mini-"), preset.media == "video"
    words = moving.VOCABULARY if is_video else grammar.VOCABULARY
    examples = [example.prompt for example in preset.examples] or ["a cat"]
    return System(
        preset=preset,
        suggest=(suggest_clips if is_video else suggest_scenes) if is_mini else lambda: examples,
        unknown_words=partial(grammar.unknown_words, vocabulary=words) if is_mini else lambda prompt: [],
        trained_steps=partial(trained_steps, preset),
        vocabulary=(MOVING_WORDS if is_video else SCENE_WORDS) if is_mini else {},
    )


def readiness(wiring: Wiring) -> Callable[[str], list[str]]:
    """Preset -> why it cannot run here yet, as `presets` says it; what is loaded can, and what is only to be fetched
    can where the page serves this machine alone: a public page must not let a visitor start downloads."""
    from tdm_core.commands.presets import this_machine

    is_private = os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1") in ("127.0.0.1", "localhost", "::1")
    may_fetch = is_private and "SPACE_ID" not in os.environ
    looked: list[tuple[float, Machine]] = []

    def look() -> Machine:
        if not looked or time.monotonic() - looked[0][0] > LOOK_AGAIN_SECONDS:
            looked[:] = [(time.monotonic(), this_machine(wiring.settings))]
        # What is loaded makes room for what is asked for.
        freed = sum(wiring.presets[name].memory_gb or 0 for name in wiring.engine.loaded)
        now = looked[0][1]
        return replace(now, device_gb=now.device_gb + freed, memory_gb=now.memory_gb + freed * (now.device == "cpu"))

    def why_not(name: str) -> list[str]:
        preset = wiring.presets[name]
        if name in wiring.engine.loaded:
            return []
        here = look()
        return [] if may_fetch and lacks_only_a_download(preset, here) else reasons(preset, here)

    return why_not


def trajectory(wiring: Wiring, visitors: Visitors) -> Trajectory:
    """The engine's of this process, wherever pictures are made: only it knows what a network believes on its way."""
    look = rented(wiring.engine.trajectory, wiring) if rents_its_gpu() else wiring.engine.trajectory

    def look_inside(request: SampleRequest, moments: Sequence[float]) -> Events:
        yield from visitors.admitted(look(request, moments), request)

    return look_inside


def launch(page: Any, settings: Settings, service: StudyService, quiz: Quiz | None) -> None:
    from starlette.middleware import Middleware

    from tdm_core.storage.accounts import made_at
    from tdm_core.ui.admin import Door, admin_routes
    from tdm_core.ui.limits import Limits
    from tdm_core.ui.login import Accounts
    from tdm_core.ui.noscript import TellWithoutScript
    from tdm_core.ui.page import launch_options
    from tdm_core.ui.quiz_routes import quiz_routes
    from tdm_core.ui.routes import routes

    limits = Limits.usual(proxies=settings.proxies)
    embedded = "SPACE_ID" in os.environ
    accounts = Accounts(made_at, least_days=days) if (days := service.rules.account_days) else None
    secret = settings.secret.encode() if settings.secret else machine_secret(settings.data_dir)
    ours = routes(service, secret, accounts=accounts, limits=limits, embedded=embedded)
    ours += quiz_routes(quiz) if quiz else []
    if settings.admin_token:
        ours += admin_routes(service, Door(settings.admin_token, proxies=settings.proxies), limits)
    _, url, _ = page.launch(
        app_kwargs={"routes": ours, "middleware": [Middleware(TellWithoutScript)]},
        max_file_size="1mb",
        blocked_paths=[str(Path(settings.data_dir, name).resolve()) for name in PRIVATE_NAMES],
        prevent_thread_lock=True,
        quiet=True,
        **launch_options(),
    )
    page.server.config.timeout_keep_alive = KEEP_ALIVE_SECONDS
    logger.info("the page: %s", url, extra={"event": "serving", "url": url})


def benchmark_tables() -> list[Table]:
    """The last committed run of each benchmark."""
    from tdm_core.ui.report import Table

    header = ("", "measured", "bar")
    return [
        Table(title=f"{row.name}: {row.when[:10]}, {row.machine}", header=header, rows=tuple(cells_of(row)))
        for row in newest(load())
    ]


def suggest_scenes() -> list[str]:
    rng = default_rng()
    return short_and_different(lambda: grammar.caption(sample_scene(rng)))


def suggest_clips() -> list[str]:
    rng = default_rng()
    return short_and_different(lambda: moving.caption(sample_clip(rng)))


def short_and_different(draw: Callable[[], str]) -> list[str]:
    captions: set[str] = set()
    while len(captions) < SUGGESTIONS:
        caption = draw()
        if len(caption) <= LONGEST_SUGGESTION:
            captions.add(caption)
    return sorted(captions, key=len)


def trained_steps(preset: Preset) -> frozenset[int]:
    try:
        return student_grids(preset).trained_steps | {preset.student.steps}
    except LoadError:  # the first sample will say what is wrong
        return frozenset({preset.student.steps})


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    # Past this point the interpreter would pull threads out of torch, which aborts. Nothing is lost by not waiting:
    # a vote is on the disk before it is acknowledged, and half a pair is cleared away at the next start.
    os._exit(status)
