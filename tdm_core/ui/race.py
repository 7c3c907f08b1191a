"""The Race tab: in the time of one teacher sample the student fills a grid; three ratios as measured just now."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import gradio as gr

from tdm_core.errors import TDMError
from tdm_core.generation.sample import MAX_SEED, Progress, Sample
from tdm_core.ui import texts, viewer
from tdm_core.ui.board import Comparison, Side, preview_url
from tdm_core.ui.desk import Desk, Handlers, keep
from tdm_core.ui.inputs import PageInputs

HERE = Path(__file__).parent
MAX_TILES = 64
ROUNDING = 1e-9  # of a sum of clocks
_TEMPLATE, _STYLE = ((HERE / f"race.{kind}").read_text(encoding="utf-8") for kind in ("html", "css"))
_SCRIPT = viewer.script("media.js") + viewer.script("look.js") + (HERE / "race.js").read_text(encoding="utf-8")
logger = logging.getLogger(__name__)


def race_tab(inputs: PageInputs, handlers: Handlers, desk: gr.State) -> None:
    """Races what the Compare tab shows: its system, prompt, seed and settings."""
    track = viewer.static_html(_TEMPLATE, _STYLE, _SCRIPT, value=waiting_value(), elem_id="tdm-race")
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}

    def start(desk: Desk) -> Iterator[dict[str, Any]]:
        yield from run_race(inputs, desk.board.asked if desk.board else handlers.example)

    started = track.submit(start, desk, track, concurrency_limit=None, **private)
    track.stop(None, None, None, cancels=[started], **private)


def waiting_value() -> dict[str, Any]:
    return {
        "phase": "waiting",
        "lead": texts.RACE_LEAD,
        "rule": texts.RACE_ONE_BY_ONE,
        "start": texts.RACE_START,
        "stop": texts.RACE_STOP,
        "tiles": [],
        "teacher": {},
    }


def run_race(inputs: PageInputs, asked: Comparison) -> Iterator[dict[str, Any]]:
    """The teacher once, then students of one seed after the other for as long as the teacher took, one at a time."""
    preset = asked.preset
    value = waiting_value() | {"phase": "teacher", "prompt": asked.prompt, "kind": preset.media, "fps": preset.fps}
    yield value
    try:
        for lane in (_teacher, _students):
            for change in lane(inputs, asked, value):
                value = {**value, **change}
                yield value
    except TDMError as problem:
        yield {**value, "phase": "failed", "message": str(problem)}
    except Exception:  # as `Board.run` has it: a bug must not leave a race that runs for ever
        logger.exception("the race failed")
        yield {**value, "phase": "failed", "message": texts.SURPRISE}


def _teacher(inputs: PageInputs, asked: Comparison, value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    teacher: dict[str, Any] = {}
    event: Progress | Sample
    with closing(inputs.sample(asked.request(Side.TEACHER))) as events:  # type: ignore[type-var]
        for event in events:
            if isinstance(event, Sample):
                break
            teacher |= {"step": event.step, "steps": event.steps, "elapsed": event.elapsed_seconds}
            if event.preview is not None:
                teacher["preview"] = preview_url(event.preview)
            yield {"teacher": dict(teacher)}
    assert isinstance(event, Sample), "a sampler ends with its sample"
    teacher |= {"src": _kept(event, asked, "race-teacher"), "seed": asked.seed}
    teacher |= {"seconds": event.seconds, "denoiser_seconds": event.denoiser_seconds, "nfe": event.nfe}
    value["teacher"] = teacher
    yield {"teacher": teacher, "phase": "student"}


def _students(inputs: PageInputs, asked: Comparison, value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    teacher, spent = value["teacher"], 0.0
    tiles: list[dict[str, Any]] = []
    made: list[Sample] = []
    while len(tiles) < MAX_TILES:
        seed = (asked.seed + len(tiles)) % (MAX_SEED + 1)
        with closing(inputs.sample(replace(asked, seed=seed).request(Side.STUDENT))) as events:  # type: ignore[type-var]
            sample = next(event for event in events if isinstance(event, Sample))
        if tiles and spent + sample.seconds > teacher["seconds"] * (1 + ROUNDING):
            break
        spent += sample.seconds
        made.append(sample)
        tiles.append({"src": _kept(sample, asked, f"race-{len(tiles)}"), "at": spent, "seed": seed})
        yield {"tiles": list(tiles)}
    things = texts.RACE_THINGS[asked.preset.media]
    yield {
        "phase": "done",
        "result": texts.RACE_RESULT.format(n=len(tiles), things=things),
        "ratios": ratios(teacher, made),
        "recorded": texts.RACE_RECORDED.format(machine=inputs.machine or "this machine"),
    }


def ratios(teacher: dict[str, Any], students: list[Sample]) -> list[list[Any]]:
    """Teacher over student, name and value: evaluations, the network alone, text to pixels."""
    measured = {
        "nfe": teacher["nfe"] / students[0].nfe,
        "denoiser": teacher["denoiser_seconds"] / mean(sample.denoiser_seconds for sample in students),
        "end_to_end": teacher["seconds"] / mean(sample.seconds for sample in students),
    }
    return [[texts.RACE_RATIOS[name], value] for name, value in measured.items()]


def _kept(sample: Sample, asked: Comparison, name: str) -> dict[str, Any]:
    return keep(sample.media, name, fps=asked.preset.fps)
