from types import SimpleNamespace

import gradio as gr
import pytest

from tdm_core.generation.presets import load_presets
from tdm_core.scenes import grammar
from tdm_core.ui import desk as desk_module
from tdm_core.ui import texts
from tdm_core.ui.desk import Desk, Handlers
from tdm_core.ui.inputs import PageInputs
from tests.ui.fakes import FakeSampler

PRESET = load_presets()["mini-sd3"]
EXAMPLE = (PRESET.examples[0].prompt, PRESET.examples[0].seed, 4, 28)


@pytest.fixture
def handlers(monkeypatch):
    monkeypatch.setattr(desk_module, "keep", lambda pixels, name: {"url": name})
    inputs = PageInputs(
        preset=PRESET,
        sample=FakeSampler(seconds_per_step=0),
        suggest=lambda: ["a cat"],
        unknown_words=grammar.unknown_words,
        trained_steps=frozenset({4}),
        results=lambda: None,
    )
    return Handlers(inputs)


def states(value):
    return {item["id"]: item["state"] for item in value["items"]}


def test_the_student_is_ready_before_any_teacher_begins(handlers):
    desk = Desk()
    *_, (value, _) = handlers.student("a cat", 1, 4, 28, desk)
    assert states(value) == {"teacher": "queued", "teacher_few": "queued", "student": "ready"}
    *_, value = handlers.teachers(desk)
    assert set(states(value).values()) == {"ready"}


def test_the_first_update_comes_at_once_and_names_unknown_words(handlers):
    value, note = next(handlers.student("a cat and a dragon", 1, 4, 28, Desk()))
    assert set(states(value).values()) == {"queued"}
    assert "“dragon”" in note["text"]


def test_a_wrong_field_is_told_beside_it_and_runs_nothing(handlers):
    ((_, note),) = handlers.student("a cat", None, 4, 28, Desk())
    assert note == {"kind": "error", "text": texts.NO_SEED}
    assert handlers.inputs.sample.requests == []


def test_a_newer_run_silences_the_older_one(handlers):
    desk = Desk()
    older = handlers.student("a cat", 1, 4, 28, desk)
    next(older)
    list(handlers.student("a dog", 2, 4, 28, desk))
    assert list(older) == []
    assert desk.board.asked.prompt == "a dog"


def test_the_teachers_run_once_for_two_events_of_one_page(handlers):
    desk = Desk()
    list(handlers.student("a cat", 1, 4, 28, desk))
    assert len(list(handlers.teachers(desk))) > 1
    assert list(handlers.teachers(desk)) == [gr.skip()]  # never nothing, which would clear the viewer
    assert len(handlers.inputs.sample.requests) == 3


def test_the_example_is_made_once_per_process_and_says_that_it_is_recorded(handlers):
    for _ in range(2):
        desk = Desk()
        list(handlers.opening(*EXAMPLE, desk))
        *_, value = handlers.teachers(desk)
    assert len(handlers.inputs.sample.requests) == 3
    assert texts.RECORDED in value["foot"]
    assert value["items"][2]["badge"] == "14.0× faster"


def test_a_link_restores_the_fields(handlers):
    query = {"prompt": "two owls", "seed": "99", "student": "2", "teacher": "50"}
    *fields, note = handlers.restore(SimpleNamespace(query_params=query))
    assert fields == ["two owls", 99, 2, 50]
    assert note["text"] == ""


@pytest.mark.parametrize("query", [{"seed": "seven"}, {"teacher": "5"}, {"student": "99"}, {"prompt": " "}])
def test_a_link_that_makes_no_sense_is_told_and_shows_the_example(handlers, query):
    *fields, note = handlers.restore(SimpleNamespace(query_params=query))
    assert tuple(fields) == EXAMPLE
    assert note["kind"] == "error"
