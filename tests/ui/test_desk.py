from dataclasses import replace

import gradio as gr
import pytest

from tdm_core.generation.plan import make_plan
from tdm_core.generation.presets import load_presets
from tdm_core.generation.sample import Progress
from tdm_core.generation.visitors import Visitors
from tdm_core.scenes import grammar
from tdm_core.ui import desk as desk_module
from tdm_core.ui import texts
from tdm_core.ui.board import Board, Comparison, Side
from tdm_core.ui.desk import Desk, Fields, Handlers
from tdm_core.ui.inputs import PageInputs, System
from tests.ui.fakes import FakeSampler

PRESET = load_presets()["mini-sd3"]
EXAMPLE = ("mini-sd3", PRESET.examples[0].prompt, PRESET.examples[0].seed, 4, 28)


@pytest.fixture
def handlers(monkeypatch):
    monkeypatch.setattr(desk_module, "keep", lambda pixels, name, fps: {"url": name})
    inputs = PageInputs(
        preset=PRESET,
        sample=FakeSampler(seconds_per_step=0),
        suggest=lambda: ["a cat"],
        unknown_words=grammar.unknown_words,
        trained_steps=frozenset({4}),
        results=lambda: None,
        others=[
            System(preset=replace(PRESET, name="clips", media="video", frames=9), suggest=lambda: ["a cat"]),
            System(preset=replace(PRESET, name="rival", title="A rival's student"), suggest=lambda: ["a cat"]),
            System(preset=replace(PRESET, name="absent", title="Somewhere else"), suggest=lambda: ["a cat"]),
        ],
        why_not=lambda name: ["too little memory"] if name == "absent" else [],
    )
    return Handlers(inputs)


def states(value):
    return {item["id"]: item["state"] for item in value["items"]}


def test_the_student_is_ready_before_any_teacher_begins(handlers):
    desk = Desk()
    *_, (value, _) = handlers.student("mini-sd3", "a cat", 1, 4, 28, desk)
    assert states(value) == {"teacher": "queued", "teacher_few": "queued", "student": "ready"}
    *_, value = handlers.teachers(desk)
    assert set(states(value).values()) == {"ready"}


def test_the_first_update_comes_at_once_and_names_unknown_words(handlers):
    value, note = next(handlers.student("mini-sd3", "a cat and a dragon", 1, 4, 28, Desk()))
    assert set(states(value).values()) == {"queued"}
    assert "“dragon”" in note["text"]


def test_a_wrong_field_is_told_beside_it_and_runs_nothing(handlers):
    ((_, note),) = handlers.student("mini-sd3", "a cat", None, 4, 28, Desk())
    assert note == {"kind": "error", "text": texts.NO_SEED}
    assert handlers.inputs.sample.requests == []


def test_a_newer_run_silences_the_older_one(handlers):
    desk = Desk()
    older = handlers.student("mini-sd3", "a cat", 1, 4, 28, desk)
    next(older)
    list(handlers.student("mini-sd3", "a dog", 2, 4, 28, desk))
    assert list(older) == []
    assert desk.board.asked.prompt == "a dog"


def test_the_teachers_run_once_for_two_events_of_one_page(handlers):
    desk = Desk()
    list(handlers.student("mini-sd3", "a cat", 1, 4, 28, desk))
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


def test_a_link_restores_the_comparison(handlers):
    query = {"prompt": "two owls", "seed": "99", "student": "2", "teacher": "50", "guidance": "4.5", "strength": "0.5"}
    asked, note = handlers.linked(query)
    assert (asked.prompt, asked.seed, asked.student_steps, asked.teacher_steps) == ("two owls", 99, 2, 50)
    assert (asked.guidance, asked.strength, asked.flow_shift) == (4.5, 0.5, None)
    assert note["text"] == ""
    assert handlers.linked(asked.link())[0] == asked


@pytest.mark.parametrize(
    "query",
    [
        {"seed": "seven"},
        {"teacher": "5"},
        {"student": "99"},
        {"prompt": " "},
        {"system": "nowhere"},
        {"system": "absent"},
        {"guidance": "nan"},
        {"strength": "7"},
    ],
)
def test_a_link_that_makes_no_sense_is_told_and_shows_the_example(handlers, query):
    asked, note = handlers.linked(query)
    assert asked == handlers.example
    assert note["kind"] == "error"


def test_settings_that_are_the_preset_s_own_are_left_to_it(handlers):
    fields = Fields(*EXAMPLE, guidance=PRESET.teacher.guidance_scale, strength=1.0, flow_shift=3.0)
    assert handlers.asked(fields) == handlers.example
    changed = handlers.asked(Fields(*EXAMPLE, guidance=1.0, strength=0.5))
    assert [changed.request(side).guidance_scale for side in changed.sides] == [1.0, 1.0, None]
    assert [changed.request(side).strength for side in changed.sides] == [None, None, 0.5]
    assert changed.nfe(Side.TEACHER) == 28


def test_a_flow_shift_goes_only_to_the_sides_that_have_one():
    preset = load_presets()["tdm-sd3"]
    asked = Comparison(preset=preset, prompt="a cat", seed=1, student_steps=4, teacher_steps=28, flow_shift=2.0)
    for side in asked.sides:
        settings = preset.student if side is Side.STUDENT else preset.teacher
        assert asked.request(side).flow_shift == (2.0 if settings.flow_shift is not None else None)
        make_plan(preset, asked.request(side))  # which refuses a shift that the scheduler does not have


def test_another_student_runs_after_the_system_s_own_and_before_the_teachers(handlers):
    desk = Desk()
    *_, (value, _) = handlers.student("mini-sd3", "a cat", 1, 4, 28, None, None, None, "rival", desk)
    assert states(value) == {"teacher": "queued", "teacher_few": "queued", "beside": "queued", "student": "ready"}
    assert [request.preset for request in handlers.inputs.sample.requests] == ["mini-sd3"]
    *_, value = handlers.teachers(desk)
    assert set(states(value).values()) == {"ready"}
    asked = [(request.preset, request.role) for request in handlers.inputs.sample.requests]
    assert asked[1:] == [("rival", "student"), ("mini-sd3", "teacher_few"), ("mini-sd3", "teacher")]
    linked, note = handlers.linked(value["link"])
    assert linked == desk.board.asked and not note["text"]


def test_only_what_runs_here_and_has_the_same_latents_is_offered_beside(handlers):
    assert [preset.name for preset in handlers.students_for(PRESET)] == ["rival"]
    clips = handlers.inputs.systems["clips"].preset
    assert handlers.students_for(clips) == []


@pytest.mark.parametrize("beside", ["absent", "clips", "mini-sd3", "nowhere"])
def test_a_student_that_cannot_stand_beside_is_refused_with_the_reason(handlers, beside):
    ((_, note),) = handlers.student("mini-sd3", "a cat", 1, 4, 28, None, None, None, beside, Desk())
    assert note["kind"] == "error" and handlers.inputs.sample.requests == []


def test_a_system_that_cannot_run_says_why_and_runs_nothing(handlers):
    ((_, note),) = handlers.student("absent", "a cat", 1, 4, 28, Desk())
    assert note["text"] == "Somewhere else cannot run here yet: too little memory."
    assert handlers.inputs.sample.requests == []


def test_a_clip_arrives_with_its_frames_and_both_sides_in_one_file(handlers):
    desk = Desk()
    list(handlers.student("clips", "a cat moving left", 1, 4, 28, desk))
    *_, value = handlers.teachers(desk)
    assert [item["frames"] for item in value["items"]] == [9, 9, 9]
    assert value["fps"] == 8
    assert [file["name"] for file in value["files"]] == ["pair.mp4"]


def test_who_waits_is_told_how_many_go_first(handlers):
    def crowded(request):
        yield Progress(step=0, steps=4, elapsed_seconds=0.0, ahead=3)
        yield from FakeSampler(seconds_per_step=0)(request)

    board = Board(handlers.example, crowded, lambda media, name: {})
    running = board.run(Side.STUDENT)
    next(running)
    item = next(item for item in board.value()["items"] if item["id"] == "student")
    assert (item["state"], item["message"]) == ("queued", "waiting, 3 ahead")


def test_who_would_wait_too_long_is_told_on_the_card(handlers):
    board = Board(
        handlers.example, Visitors(FakeSampler(seconds_per_step=0), students=0).sample, lambda media, name: {}
    )
    list(board.run(Side.STUDENT))
    item = next(item for item in board.value()["items"] if item["id"] == "student")
    assert item["state"] == "failed" and item["message"].startswith("Busy: 0 others wait for the same.")
