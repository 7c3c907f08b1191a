"""What a live distillation tells, on the tiny pipeline with a judge of its own."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from tdm_core.backbones.adapters import NetworkRole
from tdm_core.training.live import Sitting, Way, learn
from tests.training.recipes import PROMPTS, recipe, tiny_trainer

QUESTIONS = ("a cat", "a dog", "two cats")


def brightness(pictures):
    return {"value": float(pictures.mean() / 255), "low": 0.0, "high": 1.0, "n": len(pictures)}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """All events of a run of 22 iterations, and its trainer at the end."""
    config = recipe(
        tmp_path_factory.mktemp("live"),
        optimiser={"iterations": 22, "batch_size": 4},
        run={"preview_prompts": ["a cat", "a dog"], "preview_teacher_steps": 3},
    )
    trainer = tiny_trainer(config)
    encode = trainer.backbone.encode
    events = learn(trainer, prompts=encode(PROMPTS[:2]), questions=encode(QUESTIONS), judge=brightness)
    return list(events), trainer


def of(told, kind, **wanted):
    return [e for e in told[0] if e["kind"] == kind and all(e[key] == value for key, value in wanted.items())]


def test_it_begins_with_what_is_to_come_and_shows_pictures_before_it_trains(told):
    kinds = [event["kind"] for event in told[0]]
    assert kinds[:4] == ["begin", "pictures", "pictures", "step"]
    begin = told[0][0]
    assert (begin["iterations"], begin["steps"], begin["teacher_nfe"], begin["questions"]) == (22, 4, 6, 3)


def test_forwards_are_those_of_the_training_alone(told):
    assert [step["forwards"] for step in of(told, "step")] == [26 * n for n in range(1, 23)]  # 6.5 x 4 rows


def test_student_is_shown_and_scored_as_it_goes_and_at_its_end(told):
    assert [event["step"] for event in of(told, "pictures", role="student")] == [0, 5, 10, 15, 20, 22]
    assert sorted(event["step"] for event in of(told, "score")) == [0, 20, 22]
    picture = of(told, "pictures", role="student")[0]["pictures"][0]
    assert Image.open(io.BytesIO(base64.b64decode(picture))).size == (32, 32)


def test_the_line_at_equal_evaluations_is_the_best_of_the_teachers_ways(told):
    _, trainer = told
    exam = Sitting.of(trainer, trainer.backbone.encode(QUESTIONS))
    grids = [(1.0, trainer.nodes), (1.0, torch.linspace(1, 0, 5)), (3.0, torch.tensor([1, 0.6, 0.0]))]
    ways = [Way(role=NetworkRole.TEACHER, guidance_scale=scale, nodes=nodes) for scale, nodes in grids]
    values = [brightness(exam.draw(trainer, way))["value"] for way in ways]
    (line,) = of(told, "line", role="equal")
    assert [way.nfe for way in ways] == [4, 4, 4]
    assert line["value"] == pytest.approx(max(values), abs=1e-3)
    assert line["nfe"] == 4


def test_a_fresh_student_scores_as_the_teacher_on_its_nodes(told):
    _, trainer = told
    way = Way(role=NetworkRole.TEACHER, guidance_scale=1.0, nodes=trainer.nodes)
    drawn = Sitting.of(trainer, trainer.backbone.encode(QUESTIONS)).draw(trainer, way)
    assert of(told, "score", step=0)[0]["value"] == pytest.approx(brightness(drawn)["value"], abs=1e-3)


def test_the_full_teacher_is_asked_bit_by_bit_and_once(told):
    (line,) = of(told, "line", role="teacher")
    assert (line["nfe"], line["n"]) == (6, 3)
    assert np.isfinite(line["value"])


def test_watching_does_not_change_the_student(told, tmp_path):
    trainer = tiny_trainer(told[1].config)
    for _ in range(22):
        trainer.train_step()
    for name, weight in told[1].ema.items():
        torch.testing.assert_close(trainer.ema[name], weight)
