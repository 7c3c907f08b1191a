"""The Steps tab: what the network takes the finished picture to be at each of the student's steps, and the teacher's.

Both start from one noise. The student must see the whole picture at once; the teacher's guess sharpens slowly: what it
means to match the teacher's distribution along its trajectory, visible.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from tdm_core.errors import TDMError
from tdm_core.generation.sample import Progress, Sample
from tdm_core.ui import texts, viewer
from tdm_core.ui.board import Comparison, Side, preview_url
from tdm_core.ui.desk import Desk, Handlers, keep
from tdm_core.ui.inputs import Trajectory

HERE = Path(__file__).parent
FRAMES_A_SECOND = 1
_SCRIPT = viewer.SCRIPT + (HERE / "steps.js").read_text(encoding="utf-8")
_TEMPLATE = (
    '<div class="tdm-steps"><p class="tdm-lead"></p><button type="button" class="tdm-go"></button>'
    '<p class="tdm-prompt" dir="auto"></p><div class="tdm-film" role="group" aria-label="Steps"></div></div>'
)

logger = logging.getLogger(__name__)


def steps_tab(trajectory: Trajectory, handlers: Handlers, desk: gr.State) -> None:
    """Looks at what the Compare tab shows."""
    empty = {"lead": texts.STEPS_LEAD, "start": texts.STEPS_START, "items": [], "rev": 0}
    film = viewer.static_html(_TEMPLATE + viewer.TEMPLATE, viewer.STYLE, _SCRIPT, value=empty, elem_id="tdm-steps")

    def start(desk: Desk) -> Iterator[dict[str, Any]]:
        asked = desk.board.asked if desk.board else handlers.example
        for value in look_inside(trajectory, asked):
            yield empty | value

    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    started = film.submit(start, desk, film, concurrency_limit=None, **private)
    film.stop(None, None, None, cancels=[started], **private)


def look_inside(trajectory: Trajectory, asked: Comparison) -> Iterator[dict[str, Any]]:
    """The student's steps, then the teacher's nearest to them in time; a value for the viewer after each news."""
    seen: dict[Side, list[Progress]] = {Side.TEACHER: [], Side.STUDENT: []}
    samples: dict[Side, Sample] = {}
    items = {side: _item(side, asked) for side in seen}
    store = partial(keep, fps=asked.preset.fps)

    def value() -> dict[str, Any]:
        steps = seen[Side.STUDENT]
        ticks = [texts.STEPS_AT.format(time=step.time) for step in steps] + [texts.STEPS_FINISHED]
        shown = {"ticks": ticks, "items": [dict(item) for item in items.values()], "prompt": asked.prompt}
        return shown | {"rev": f"{asked.link()} {len(samples)}", "fps": FRAMES_A_SECOND, "foot": [texts.STEPS_NOTE]}

    def failed(message: str) -> dict[str, Any]:
        for item in items.values():
            if item["state"] != "ready":
                item |= {"state": "failed", "message": message}
        return value()

    yield value()
    try:
        for side in (Side.STUDENT, Side.TEACHER):
            moments: Sequence[float] = [step.time or 0.0 for step in seen[Side.STUDENT]] if side is Side.TEACHER else ()
            with closing(trajectory(asked.request(side), moments)) as events:  # type: ignore[type-var]
                for event in events:
                    if isinstance(event, Sample):
                        samples[side] = event
                    elif event.preview is not None:
                        seen[side].append(event)
                    _update(items[side], event)
                    yield value()
        for side, item in items.items():
            frames = [step.preview for step in _nearest(seen[side], seen[Side.STUDENT])] + [_still(samples[side])]
            pictures = [store(frame, f"step-{index}") for index, frame in enumerate(frames) if frame is not None]
            item |= {"state": "ready", "src": pictures, "frames": len(pictures)}
        yield value()
    except TDMError as problem:
        yield failed(str(problem))
    except Exception:  # as `Board.run` has it: a bug must not leave panes that wait for ever
        logger.exception("the trajectory failed")
        yield failed(texts.SURPRISE)


def _item(side: Side, asked: Comparison) -> dict[str, Any]:
    label = texts.STUDENT if side is Side.STUDENT else texts.TEACHER
    note = texts.STEPS_AND_NFE.format(steps=asked.request(side).steps, nfe=asked.nfe(side))
    return {"id": str(side), "label": label, "note": note, "state": "queued", "message": texts.WAITING}


def _update(item: dict[str, Any], event: Progress | Sample) -> None:
    item["state"] = "running"
    if isinstance(event, Progress):
        item |= {"step": event.step, "steps": event.steps, "elapsed": event.elapsed_seconds}
        if event.preview is not None:
            item["preview"] = preview_url(event.preview)


def _nearest(steps: Sequence[Progress], wanted: Sequence[Progress]) -> list[Progress]:
    """For each wanted step the one that begins nearest in time."""
    return [min(steps, key=lambda step: abs((step.time or 0.0) - (each.time or 0.0))) for each in wanted]


def _still(sample: Sample) -> Any:
    return sample.media[0] if sample.kind == "video" else sample.media
