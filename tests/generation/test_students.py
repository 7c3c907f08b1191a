"""Students made on the page: offered as presets, kept over a restart, and not for ever."""

import pytest

from tdm_core.generation.presets import load_presets
from tdm_core.generation.students import Students


@pytest.fixture
def presets():
    return load_presets()


def make(students):
    folder = students.new_folder()
    (folder / "pytorch_lora_weights.safetensors").write_bytes(b"lora")
    return students.add(folder)


def test_a_student_is_the_preset_with_another_lora(tmp_path, presets):
    own = presets["mini-sd3"]
    preset = make(Students(tmp_path, presets, own))
    assert presets[preset.name] is preset
    assert preset.lora_file().read_bytes() == b"lora"
    assert (preset.base, preset.teacher, preset.student.steps) == (own.base, own.teacher, own.student.steps)
    assert preset.problems() == {}


def test_the_newest_few_are_kept_and_names_never_come_back(tmp_path, presets):
    forgotten = []
    students = Students(tmp_path, presets, presets["mini-sd3"], forget=forgotten.append, most_kept=2)
    names = [make(students).name for _ in range(3)]
    assert list(students.all()) == [names[2], names[1]]
    assert forgotten == [names[0]]
    assert names[0] not in presets
    assert not (tmp_path / names[0]).exists()
    again = Students(tmp_path, presets, presets["mini-sd3"], most_kept=2)
    assert list(again.all()) == [names[2], names[1]]
    assert make(again).name == "mini-sd3-live-4"


def test_a_run_that_was_broken_off_leaves_nothing(tmp_path, presets):
    folder = Students(tmp_path, presets, presets["mini-sd3"]).new_folder()
    assert folder.is_dir()
    assert Students(tmp_path, presets, presets["mini-sd3"]).all() == {}
    assert not folder.exists()
