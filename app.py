"""The composition root: settings -> engine, store, study -> page.  `python app.py` serves it.

The page answers before torch is imported: weights load in a background thread, which then builds the bank of the
blind study and gives way to visitors.  Everything that is written lies under ``TDM_DATA_DIR``.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

from numpy.random import default_rng

from tdm_core.errors import ConfigError, LoadError, TDMError
from tdm_core.generation.plan import student_grids
from tdm_core.generation.presets import Preset
from tdm_core.generation.visitors import Visitors
from tdm_core.scenes import grammar
from tdm_core.scenes.sampling import sample_scene
from tdm_core.settings import Settings
from tdm_core.storage import Rounds, SegmentWriter, machine_secret
from tdm_core.study import StudyService
from tdm_core.study.quiz import Quiz
from tdm_core.wiring import Wiring

PRIVATE_NAMES = ("study.sqlite3", "study.sqlite3-wal", "study.sqlite3-shm", "secret", "bank", "studies", "quiz")
HUB_SECONDS = 60.0  # between two commits
SUGGESTIONS, LONGEST_SUGGESTION = 6, 34

logger = logging.getLogger("tdm")


def main() -> int:
    """Serve until told to stop; the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    for chatty in ("httpx", "alembic"):  # Gradio's own start-up requests to itself; every migration of the database
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        serve(Settings.from_env())
    except TDMError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except OSError as error:  # the port is taken, a folder cannot be made
        print(error, file=sys.stderr)
        return 1
    return 0


def serve(settings: Settings) -> None:
    wiring = Wiring(settings)
    if recovered := wiring.recover(settings.study):
        logger.info("%d votes were recovered from the Hub", recovered)
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
    visitors = Visitors(wiring.engine.sample)
    quiz = wiring.quiz(preset)
    warm = threading.Event()

    def prepare() -> None:
        """Load the weights, then make the pairs that the study still lacks."""
        try:
            wiring.engine.warm_up(preset.name)
            warm.set()
            logger.info("%s is loaded", preset.title)
            for _ in wiring.build_bank(settings.study, service, visitors.sample_politely):
                pass
            logger.info("the study's pairs are complete")
            for _ in wiring.build_quiz(quiz, visitors.sample_politely) if quiz else ():
                pass
        except TDMError as error:
            logger.error("%s", error)
        finally:
            warm.set()  # a page must not say "loading" for ever; its own request will tell what is wrong

    page = build_page(settings, preset, visitors, service, warm, has_quiz=quiz is not None)
    launch(page, settings, service, quiz)
    threading.Thread(target=prepare, name="tdm-prepare", daemon=True).start()
    told_to_stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told_to_stop.set())  # after launch, which may set its own
    try:
        told_to_stop.wait()
    except KeyboardInterrupt:
        pass
    page.close()
    segments.close()
    if uploads:
        uploads.close()


def build_page(
    settings: Settings,
    preset: Preset,
    visitors: Visitors,
    service: StudyService,
    warm: threading.Event,
    *,
    has_quiz: bool,
) -> Any:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str((settings.data_dir / "pictures").resolve())
    from tdm_core.ui.inputs import PageInputs
    from tdm_core.ui.page import build

    knows_scenes = preset.name.startswith("mini-")
    return build(
        PageInputs(
            preset=preset,
            sample=visitors.sample,
            suggest=suggest_scenes if knows_scenes else lambda: [example.prompt for example in preset.examples],
            unknown_words=grammar.unknown_words if knows_scenes else lambda prompt: [],
            trained_steps=trained_steps(preset),
            results=partial(service.results, by_visitor=True),
            is_ready=warm.is_set,
            has_quiz=has_quiz,
            asks_login=service.rules.identity == "hf",
        )
    )


def launch(page: Any, settings: Settings, service: StudyService, quiz: Quiz | None) -> None:
    from tdm_core.ui.admin import admin_routes
    from tdm_core.ui.page import launch_options
    from tdm_core.ui.quiz_routes import quiz_routes
    from tdm_core.ui.routes import routes

    ours = routes(service, machine_secret(settings.data_dir))
    ours += quiz_routes(quiz) if quiz else []
    ours += admin_routes(service, settings.admin_token) if settings.admin_token else []
    _, url, _ = page.launch(
        app_kwargs={"routes": ours},
        max_file_size="1mb",
        blocked_paths=[str(Path(settings.data_dir, name).resolve()) for name in PRIVATE_NAMES],
        prevent_thread_lock=True,
        quiet=True,
        **launch_options(),
    )
    logger.info("the page: %s", url)


def suggest_scenes() -> list[str]:
    """Short captions of random scenes, all different."""
    rng = default_rng()
    captions: set[str] = set()
    while len(captions) < SUGGESTIONS:
        caption = grammar.caption(sample_scene(rng))
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
