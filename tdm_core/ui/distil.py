"""The Distil tab: a student that learns before the visitor's eyes.

The work is done elsewhere, in a process of its own; here its events become the value that ``distil.js`` draws.  A run
belongs to the page that began it: when the page goes, so does the run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import gradio as gr
from gradio import processing_utils, utils
from gradio.data_classes import FileData

from tdm_core.ui import texts, viewer
from tdm_core.ui.inputs import Event, Learn

HERE = Path(__file__).parent
TEMPLATE = (HERE / "distil.html").read_text(encoding="utf-8")
STYLE = (HERE / "distil.css").read_text(encoding="utf-8")
SCRIPT = viewer.script("look.js") + (HERE / "distil.js").read_text(encoding="utf-8")
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}

Wish = Literal["go", "pause", "stop"]
Value = dict[str, Any]


@dataclass
class Lesson:
    """One page's run: what its visitor wishes, and what is known of it so far."""

    wish: Wish = "stop"
    value: Value = field(default_factory=lambda: fresh("idle"))

    def begin(self) -> None:
        self.wish, self.value = "go", fresh("waiting")

    def take(self, event: Event) -> None:
        """Bring the value up to date by one event."""
        value, rest = self.value, {key: value for key, value in event.items() if key != "kind"}
        match event["kind"]:
            case "waiting":
                ahead = rest["ahead"]
                value["message"] = texts.LIVE_AHEAD_ONE if ahead == 1 else texts.LIVE_AHEAD.format(ahead=ahead)
            case "loading":
                value |= {"state": "loading", "message": texts.LIVE_LOADING}
            case "begin":
                value |= {"state": "running", "message": "", "begin": rest}
            case "step":
                value["spent"] = rest
            case "pictures":
                value["pictures"] = {**value["pictures"], rest["role"]: rest}
            case "line":
                value["lines"] = {**value["lines"], rest["role"]: rest}
            case "score":
                value["scores"] = sorted([*value["scores"], rest], key=lambda score: score["step"])
            case "end":
                value |= {"state": "ended", "message": "", "preset": rest["preset"], "file": _offer(rest["file"])}
            case "failed":
                value |= {"state": "failed", "message": rest["message"]}
            case "full":
                value |= {"state": "failed", "message": texts.LIVE_FULL}
            case "gave_way":
                value |= {"state": "failed", "message": texts.LIVE_GAVE_WAY}
        if value["state"] in ("running", "paused"):
            value["state"] = "paused" if self.wish == "pause" else "running"


def fresh(state: str) -> Value:
    """What is shown of a run that has told nothing yet."""
    return {
        "state": state,
        "message": "",
        "begin": None,
        "spent": {"step": 0, "forwards": 0, "seconds": 0.0},
        "pictures": {},
        "lines": {},
        "scores": [],
        "preset": None,
        "file": None,
    }


def distil_tab(learn: Learn) -> gr.HTML:
    """Build the tab. The component's event ``compare`` says that the visitor wants to see the new student at work."""
    lesson = gr.State(Lesson())
    board = viewer.static_html(TEMPLATE, STYLE, SCRIPT, value=fresh("idle"), elem_id="tdm-distil")

    def run(lesson: Lesson) -> Iterator[Value]:
        if lesson.wish != "stop":  # a second click
            yield gr.skip()
            return
        lesson.begin()
        yield dict(lesson.value)
        try:
            with closing(learn(lambda: lesson.wish)) as events:  # type: ignore[type-var]
                for event in events:
                    before = dict(lesson.value)
                    lesson.take(event)
                    yield dict(lesson.value) if lesson.value != before else gr.skip()
        finally:
            lesson.wish = "stop"
        if lesson.value["state"] not in ("ended", "failed"):
            lesson.value["state"] = "stopped"
        yield dict(lesson.value)

    def wished(wish: Wish) -> Any:
        def note(lesson: Lesson) -> None:
            if lesson.wish != "stop":
                lesson.wish = wish

        return note

    board.begin(run, lesson, board, concurrency_limit=None, **PRIVATE)
    board.hold(wished("pause"), lesson, None, queue=False, **PRIVATE)
    board.proceed(wished("go"), lesson, None, queue=False, **PRIVATE)
    board.quit(wished("stop"), lesson, None, queue=False, **PRIVATE)
    return board


def _offer(path: str) -> Value:
    """A copy in Gradio's cache, which alone is served."""
    copy = processing_utils.save_file_to_cache(path, utils.get_upload_folder())
    return FileData(path=copy, orig_name=Path(path).name).model_dump()
