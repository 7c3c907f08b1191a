"""Preset files: what is refused, with file and key, and what is found where."""

import pytest

from tdm_core.errors import PresetError
from tdm_core.generation.presets import SHIPPED, load_presets, read_folder, read_preset
from tests.tiny import PRESET_FILE, SIZE_PX


@pytest.fixture
def write(tmp_path, tiny_system):
    """Write a preset file of the tiny system with some text replaced, or added at the top."""

    def write(old="", new="", name="mine"):
        text = PRESET_FILE.format(folder=tiny_system, size=SIZE_PX, merge="true")
        assert old in text
        path = tmp_path / f"{name}.toml"
        path.write_text(text.replace(old, new, 1) if old else new + text)
        return path

    return write


def test_shipped_presets_are_read():
    presets = load_presets()
    mini = presets["mini-sd3"]
    assert (mini.teacher.steps, mini.teacher.guidance_scale, mini.student.steps) == (28, 2.0, 4)
    assert mini.examples and mini.name == "mini-sd3"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("", 'colour = "red"\n', "unknown key 'colour'"),
        ("", 'name = "x"\n', "unknown key 'name'"),
        ("steps = 10", 'steps = "ten"', "teacher: steps: expected int"),
        ("steps = 10", "steps = 0", "teacher: .*from 1 to 100"),
        ("guidance_scale = 3.0", "guidance_scale = 0.0", "teacher: .*between 1"),
        ('grid = "uniform"', 'grid = "cosine"', "teacher: grid: 'cosine' is not one of"),
        ('family = "sd3"', 'family = "sd9"', "family: 'sd9' is not one of 'sd3'"),
        ('licence = "none"', "", "missing key 'licence'"),
        ("width = 32", "width = 0", "width must be at least 1"),
        ("", "frames = 1000\n", "frames must be at most 200, got 1000"),
        ("", 'media = "video"\n', "media is 'video', but frames is 1"),
        ("", 'offload = "disk"\n', "offload: 'disk' is not one of"),
        ("merge = true", "merge = true\n[student.tensor_list]\nrank = 4", "tensor_list: missing key"),
        ('prompt = "a cat"', 'prompt = ""', r"examples\[0\]: .*empty"),
        ("[teacher]", "[teacher", "not valid TOML"),
    ],
)
def test_wrong_file_is_refused_with_file_and_key(write, old, new, message):
    path = write(old, new)
    with pytest.raises(PresetError, match=message) as refusal:
        read_preset(path)
    assert str(path) in str(refusal.value)
    assert len(str(refusal.value).splitlines()) <= 2


@pytest.mark.parametrize(
    ("old", "new", "key", "message"),
    [
        ("/base", "/bass", "base", "no such folder"),
        ("/lora", "/lore", "student.lora", "no such folder"),
        ("/base", "/lora", "base", "no model_index.json"),
        ("/lora", "/base", "student.lora", "no file pytorch_lora_weights.safetensors"),
    ],
)
def test_what_is_not_there_is_named_with_file_and_key(write, old, new, key, message):
    path = write(old, new)
    problem = read_preset(path).problems()[key]
    assert problem.startswith(f"{path}: {key}: ")
    assert message in problem


def test_whole_system_has_no_problem(write):
    assert read_preset(write()).problems() == {}


def test_folder_is_looked_for_beside_the_preset_file(write, tmp_path, tiny_system):
    (tmp_path / "here").symlink_to(tiny_system / "base")
    assert read_preset(write(f"{tiny_system}/base", "here")).problems() == {}


def test_hub_repository_is_no_folder(write, tiny_system):
    preset = read_preset(write(f"{tiny_system}/base", "stabilityai/stable-diffusion-3-medium-diffusers"))
    assert preset.repositories() == {"base": "stabilityai/stable-diffusion-3-medium-diffusers"}
    assert preset.problems() == {}


def test_later_folder_wins_and_order_is_kept(write, tmp_path):
    write("Tiny random SD3", "Mine", name="mini-sd3")
    presets = load_presets([SHIPPED, tmp_path])
    assert presets["mini-sd3"].title == "Mine"


def test_typo_in_one_file_leaves_the_others_as_they_are(write, tmp_path):
    write(name="good")
    bad = write("width = 32", "widht = 32", name="bad")
    presets, unreadable = read_folder(tmp_path)
    assert (list(presets), list(unreadable)) == (["good"], ["bad"])
    assert unreadable["bad"].startswith(f"{bad}: unknown key 'widht'")
    with pytest.raises(PresetError, match="unknown key 'widht'"):
        load_presets([tmp_path])  # as the shipped ones are read


def test_autoencoder_that_is_none_is_named(write, tiny_system):
    problems = read_preset(write(new=f'vae = "{tiny_system}/lora"\n')).problems()
    assert "vae: " in problems["vae"] and "no config.json" in problems["vae"]


@pytest.mark.parametrize(("name", "message"), [("none", "no such folder"), ("", "no preset files")])
def test_folder_without_presets_is_refused(tmp_path, name, message):
    with pytest.raises(PresetError, match=message):
        load_presets([tmp_path / name])
