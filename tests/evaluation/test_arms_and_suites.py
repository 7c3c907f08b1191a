"""What is compared with what, on which prompts and noises."""

from dataclasses import replace

import pytest

from tdm_core.errors import ConfigError
from tdm_core.evaluation.arms import arms_of, choose_arms, fingerprint
from tdm_core.evaluation.charts import kind_of
from tdm_core.evaluation.metrics import PUBLISHED, fitting, names
from tdm_core.evaluation.suites import OWN, load_suite, media_of
from tdm_core.generation.presets import StudentSettings


def test_the_teacher_is_cut_in_every_fair_way(preset):
    plans = {name: arm.plan(preset) for name, arm in arms_of(preset).items()}
    assert {name: (plan.nfe, plan.sigmas) for name, plan in plans.items() if name != "teacher"} == {
        "teacher_few": (8, (1.0, 0.75, 0.5, 0.25)),
        "teacher_few_student_grid": (8, (1.0, 0.8, 0.6, 0.3)),
        "teacher_equal_unguided": (4, (1.0, 0.75, 0.5, 0.25)),
        "teacher_equal_unguided_student_grid": (4, (1.0, 0.8, 0.6, 0.3)),
        "teacher_equal_guided": (4, (1.0, 0.5)),
        "teacher_equal_guided_student_grid": (4, (1.0, 0.6)),
        "student": (4, (1.0, 0.8, 0.6, 0.3)),
        "student_2": (2, (1.0, 0.6)),
    }
    assert plans["teacher"].nfe == 56
    assert kind_of("student_2") == kind_of("student") != kind_of("teacher")


def test_a_one_step_student_has_no_teacher_of_half_a_step(preset):
    preset = replace(preset, student=StudentSettings(lora="lora", steps=1))
    assert not [name for name in arms_of(preset) if "equal_guided" in name]


def test_unknown_roles_are_refused_with_the_known_ones(preset):
    with pytest.raises(ConfigError, match=r"--role judge.*teacher_few"):
        choose_arms(preset, ["judge"])


def test_a_new_lora_changes_the_student_alone(preset):
    def prints():
        return {name: fingerprint(preset, arm) for name, arm in arms_of(preset).items()}

    before = prints()
    (preset.origin.parent / "lora" / "pytorch_lora_weights.safetensors").write_bytes(
        (4).to_bytes(8, "little") + b"{  }"
    )
    after = prints()
    assert [name for name in before if before[name] != after[name]] == ["student", "student_2"]


def test_new_base_weights_change_every_arm_and_a_new_card_none(preset):
    arm = arms_of(preset)["teacher"]
    before = fingerprint(preset, arm)
    (preset.origin.parent / "base" / "README.md").write_text("scores")
    assert fingerprint(preset, arm) == before
    (preset.origin.parent / "base" / "weights.bin").write_bytes(b"better")
    assert fingerprint(preset, arm) != before


def test_every_picture_has_a_seed_of_its_own():
    items = load_suite("scenes").items
    assert len({item.seed(number) for item in items for number in range(4)}) == 4 * len(items)


def test_ids_are_unique_and_a_limited_suite_is_a_prefix():
    suite = load_suite("scenes")
    assert len({item.id for item in suite.items}) == 555
    assert suite.limited(7) == suite.items[:7]
    assert len({item.tag for item in suite.limited(6)}) == 6


def test_suites_and_metrics_know_what_they_are_for():
    assert {name: media_of(name) for name in ("scenes", "moving", "drawbench", "vbench_long", "file:mine")} == {
        "scenes": "image", "moving": "video", "drawbench": "image", "vbench_long": "video", "file:mine": None
    }  # fmt: skip
    for media, suite in OWN.items():
        assert set(names(suite)) <= set(fitting(suite, media))
    assert fitting("vbench", "video") == ("vbench",)
    assert set(fitting("drawbench", "image")) == set(PUBLISHED) - {"vbench"}


def test_unknown_suites_are_refused():
    with pytest.raises(ConfigError, match="no such suite"):
        load_suite("novels")
