import json
from dataclasses import replace

import numpy as np
import pytest

from tdm_core.errors import LoadError, RequestError
from tdm_core.generation.presets import load_presets
from tdm_core.ui import texts
from tdm_core.ui.board import Board, Comparison, Side
from tests.ui.fakes import FakeSampler

PRESET = load_presets()["mini-sd3"]


def asked(**changes):
    return Comparison(
        **{"preset": PRESET, "prompt": "a cat", "seed": 7, "student_steps": 4, "teacher_steps": 28} | changes
    )


def a_board(sampler=None, **changes):
    kept = []

    def keep(pixels, name):
        kept.append((name, pixels))
        return {"url": f"/file/{name}"}

    board = Board(asked(**changes), sampler or FakeSampler(seconds_per_step=0), keep)
    return board, kept


def run(board, *roles):
    for role in roles:
        for _ in board.run(role):
            pass
    return {item["id"]: item for item in board.value()["items"]}


def test_a_finished_board_has_pictures_clocks_and_the_speed_up_as_measured():
    board, kept = a_board()
    items = run(board, Side.STUDENT, Side.TEACHER_FEW, Side.TEACHER)
    assert [item["state"] for item in items.values()] == ["ready"] * 3
    assert items["teacher"]["note"] == "28 steps · 56 evaluations"
    assert items["student"]["seconds"] == pytest.approx(0.12)
    assert items["student"]["badge"] == "14.0× faster"
    assert items["teacher"]["badge"] == ""
    assert [name for name, _ in kept] == ["student", "teacher_few", "teacher"]
    assert ["same noise" in sentence for sentence in board.value()["foot"]] == [True]


def test_the_value_is_small_and_plain():
    board, _ = a_board()
    run(board, *board.asked.sides)
    assert len(json.dumps(board.value())) < 10_000


def test_a_student_of_an_untrained_step_count_says_so():
    board, _ = a_board(student_steps=3)
    assert texts.UNTRAINED in run(board, Side.STUDENT)["student"]["note"]


def test_previews_come_before_the_picture():
    board, _ = a_board()
    previews = set()
    for _ in board.run(Side.TEACHER):
        previews |= {item.get("preview") for item in board.value()["items"]} - {None}
    assert len(previews) >= 1
    assert all(preview.startswith("data:image/webp;base64,") for preview in previews)


@pytest.mark.parametrize(
    ("failure", "message"), [(LoadError("no weights\ncure"), "no weights\ncure"), (KeyError("bug"), texts.SURPRISE)]
)
def test_a_failing_teacher_leaves_the_student_alone(failure, message):
    board, _ = a_board(FakeSampler(seconds_per_step=0, fail={Side.TEACHER: failure}))
    items = run(board, Side.STUDENT, Side.TEACHER_FEW, Side.TEACHER)
    assert items["student"]["state"] == items["teacher_few"]["state"] == "ready"
    assert items["teacher"]["state"] == "failed"
    assert items["teacher"]["message"] == message


def test_stopping_ends_the_run_at_its_next_step_and_closes_the_sampler():
    sampler = FakeSampler(seconds_per_step=0.02)
    board, _ = a_board(sampler)
    running = board.run(Side.TEACHER)
    next(running)
    board.stop()
    list(running)
    items = {item["id"]: item for item in board.value()["items"]}
    assert items["teacher"]["message"] == texts.STOPPED
    assert sampler.closed == 1
    assert not board.claim(Side.STUDENT)


def test_each_role_is_claimed_once():
    board, _ = a_board()
    assert board.claim(Side.STUDENT)
    assert not board.claim(Side.STUDENT)


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": "   "},
        {"prompt": "x" * 10_000},
        {"seed": -1},
        {"student_steps": 0},
        {"student_steps": 9},
        {"teacher_steps": 27},
        {"teacher_steps": 101},
    ],
)
def test_what_lies_outside_its_range_is_refused(wrong):
    with pytest.raises(RequestError):
        asked(**wrong)


RIVAL = replace(PRESET, name="rival", title="A rival's student")


def test_another_student_stands_beside_between_the_teachers_and_the_student():
    sampler = FakeSampler(seconds_per_step=0)
    board, _ = a_board(sampler, beside=RIVAL, strength=0.5)
    items = run(board, *board.asked.sides)
    assert list(items) == ["teacher", "teacher_few", "beside", "student"]
    assert items["beside"]["label"] == "A rival's student"
    assert (items["beside"]["note"], items["beside"]["badge"]) == ("4 steps · 4 evaluations", "14.0× faster")
    rival, own = ([each for each in sampler.requests if each.preset == name] for name in ("rival", "mini-sd3"))
    assert [(each.role, each.steps, each.seed, each.strength) for each in rival] == [("student", 4, 7, None)]
    assert len(own) == 3
    assert board.value()["link"]["beside"] == "rival"
    assert board.numbers()["beside_preset"] == "rival" and board.numbers()["beside"]["nfe"] == 4
    assert "same noise" in board.value()["foot"][0]  # and not before all four are there


def test_whose_latents_have_another_shape_cannot_stand_beside():
    for other in (replace(RIVAL, width=128), replace(RIVAL, family="pixart"), PRESET):
        with pytest.raises(RequestError, match="cannot stand beside"):
            asked(beside=other)


def test_different_start_noise_is_told():
    board, _ = a_board()
    run(board, *board.asked.sides)
    board.samples[Side.STUDENT] = type(board.samples[Side.STUDENT])(
        **vars(board.samples[Side.STUDENT]) | {"noise_sha256": "other", "media": np.zeros((8, 8, 3), np.uint8)}
    )
    assert board.value()["foot"] == [texts.OTHER_NOISE]


def test_the_end_of_a_prompt_that_no_encoder_read_is_told_once_as_soon_as_it_is_known():
    def forgetful(request):
        *events, sample = FakeSampler(seconds_per_step=0)(request)
        yield from events
        yield replace(sample, unread="of the\nlast word" + 100 * " more")

    board, _ = a_board(forgetful)
    run(board, Side.STUDENT)
    assert "of the last word" in board.value()["foot"][0]
    run(board, Side.TEACHER_FEW, Side.TEACHER)
    unread, noise = board.value()["foot"]
    assert unread.endswith("…”.") and len(unread) < 160
    assert "same noise" in noise
    assert board.numbers()["unread"].startswith("of the\nlast word more more")
    assert a_board()[0].numbers()["unread"] == ""
