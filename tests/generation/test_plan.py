"""From request and preset to the exact run."""

import shutil
from dataclasses import replace

import pytest

from tdm_core.errors import LoadError
from tdm_core.generation.plan import make_plan, student_grids, uniform_grid
from tdm_core.generation.presets import read_preset
from tdm_core.generation.sample import Grid, Role, SampleRequest
from tests.tiny import PRESET_FILE, SIGMAS, SIZE_PX, change_lora


@pytest.fixture
def preset(tiny_system):
    return read_preset(tiny_system / "presets" / "tiny.toml")


@pytest.fixture
def own_lora(tmp_path, tiny_system):
    """A preset with a LoRA of its own to damage; gives the preset and the LoRA's file."""
    shutil.copytree(tiny_system / "lora", tmp_path / "lora")
    text = PRESET_FILE.format(folder=tiny_system, size=SIZE_PX, merge="true")
    (tmp_path / "own.toml").write_text(text.replace(f"{tiny_system}/lora", str(tmp_path / "lora")))
    return read_preset(tmp_path / "own.toml"), tmp_path / "lora" / "pytorch_lora_weights.safetensors"


def plan_of(preset, role, **values):
    return make_plan(preset, SampleRequest(preset=preset.name, role=role, prompt="a cat", seed=1, **values))


def test_uniform_grid_ends_one_step_above_zero():
    assert uniform_grid(4) == (1.0, 0.75, 0.5, 0.25)


def test_each_role_has_its_own_way(preset):
    teacher, few, student = (plan_of(preset, role) for role in Role)
    assert (teacher.steps, teacher.guidance_scale, teacher.nfe) == (10, 3.0, 20)
    assert (few.steps, few.guidance_scale, few.sigmas) == (4, 3.0, (1.0, 0.75, 0.5, 0.25))
    assert (student.steps, student.guidance_scale, student.nfe) == (4, 1.0, 4)
    assert student.sigmas == tuple(SIGMAS["4"])


def test_cut_teacher_may_walk_the_students_nodes(preset):
    assert plan_of(preset, Role.TEACHER_FEW, grid=Grid.STUDENT).sigmas == tuple(SIGMAS["4"])


def test_scheduler_may_choose_the_nodes_itself(preset):
    assert plan_of(preset, Role.TEACHER, grid=Grid.SCHEDULER).sigmas is None


@pytest.mark.parametrize(("steps", "trained"), [(4, True), (2, False), (3, False)])
def test_steps_without_training_are_marked(preset, steps, trained):
    assert plan_of(preset, Role.STUDENT, steps=steps).trained is trained
    assert plan_of(preset, Role.TEACHER_FEW, steps=steps).trained


def test_a_presets_own_number_of_steps_is_no_proof_of_training(preset):
    asked = replace(preset, student=replace(preset.student, steps=2))
    assert not plan_of(asked, Role.STUDENT).trained
    assert plan_of(asked, Role.STUDENT, steps=4).trained


def test_nodes_of_the_preset_go_before_those_of_the_file(own_lora):
    preset, _ = own_lora
    text = preset.origin.read_text().replace("merge = true", "merge = true\n[student.sigmas]\n4 = [0.9, 0.7, 0.5, 0.3]")
    preset.origin.write_text(text)
    assert plan_of(read_preset(preset.origin), Role.STUDENT).sigmas == (0.9, 0.7, 0.5, 0.3)


@pytest.mark.parametrize(
    "tdm",
    [
        '{"sigmas": {"4": [1.0, 0.5]}}',
        '{"sigmas": {"2": [0.5, 1.0]}}',
        '{"sigmas": {"1": ["x"]}}',
        '{"sigmas": 3}',
        "3",
        "{",
    ],
    ids=["too few", "rising", "no number", "no table", "no tables at all", "no JSON"],
)
def test_senseless_nodes_are_refused(own_lora, tdm):
    preset, file = own_lora
    change_lora(file, lambda tensors, metadata: (tensors, metadata | {"tdm": tdm}))
    with pytest.raises(LoadError, match="metadata tdm"):
        student_grids(preset)


def test_file_without_our_metadata_has_no_nodes(own_lora):
    preset, file = own_lora
    change_lora(file, lambda tensors, metadata: (tensors, {key: metadata[key] for key in metadata if key != "tdm"}))
    assert student_grids(preset).sigmas == {}
    assert plan_of(preset, Role.STUDENT).sigmas == uniform_grid(4)


@pytest.mark.parametrize("keep", [0, 5, 200])
def test_half_downloaded_file_is_refused(own_lora, keep):
    preset, file = own_lora
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(LoadError, match="half-downloaded") as refusal:
        student_grids(preset)
    assert len(str(refusal.value).splitlines()) == 2
