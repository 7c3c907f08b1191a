"""Mistakes in a preset that are found without its weights, each with file and key, before a run would meet them."""

import json
import shutil
from dataclasses import replace

import pytest
from safetensors.torch import load_file, save_file

from tdm_core.errors import LoadError, PresetError
from tdm_core.generation.engine import Engine, findings
from tdm_core.generation.presets import SHIPPED, load_presets, read_preset
from tdm_core.generation.sample import Role, SampleRequest, finish
from tests import tiny_systems as tiny
from tests.tiny import PRESET_FILE, SIZE_PX, change_lora

LORA = "pytorch_lora_weights.safetensors"


def nowhere(repository, revision):
    return None


@pytest.fixture
def write(tmp_path, tiny_system):
    """Write a preset of the tiny system with some text replaced, or added at the top; gives the preset."""

    def write(old="", new=""):
        text = PRESET_FILE.format(folder=tiny_system, size=SIZE_PX, merge="true")
        assert old in text
        path = tmp_path / "mine.toml"
        path.write_text(text.replace(old, new, 1) if old else new + text)
        return read_preset(path)

    return write


def told(preset, snapshot=nowhere):
    """The mistakes as text; none takes more than two lines."""
    found = [str(error) for error in findings(preset, snapshot)]
    assert all(len(each.splitlines()) <= 2 for each in found), found
    return found


MISTAKES = {
    "unknown scheduler": (
        "[student]",
        '[student]\nscheduler = "DDIMSheduler"',
        "student: scheduler: .*no such class as 'DDIMSheduler' .nearest: 'DDIMScheduler'.",
    ),
    "no scheduler at all": ("[teacher]", '[teacher]\nscheduler = "UNet2DModel"', "teacher: scheduler: .*no such class"),
    "misspelt setting": (
        "[teacher]",
        "[teacher]\nscheduler_config = { shfit = 3.0 }",
        "teacher: scheduler_config: FlowMatch.* no setting 'shfit' .nearest: 'shift'.",
    ),
    "impossible value": (
        "[student]",
        '[student]\nscheduler = "DDIMScheduler"\nscheduler_config = { beta_schedule = "round" }',
        "student: scheduler_config: DDIMScheduler refuses it: round",
    ),
    "unknown option": ("[teacher]", "[teacher]\noptions = { eta = 1.0 }", "teacher: options: .* takes no 'eta'"),
    "option that is ours": ("[student]", "[student]\noptions = { height = 8 }", "student: options: .*no 'height'"),
    "wrong family": (
        '"sd3"',
        '"pixart"',
        "base: .* is a StableDiffusion3Pipeline, and this family loads a Pix",
    ),
    "size": (f"width = {SIZE_PX}", "width = 100", "width, height, frames: 100x32 px: .* multiples of 8 only"),
    "video of a picture's base": ("width", 'media = "video"\nframes = 9\nwidth', "frames: .*this base makes pictures"),
    "unordered nodes": (
        "merge = true",
        "merge = true\n[student.sigmas]\n4 = [0.3, 0.5, 0.7, 0.9]",
        "student.sigmas: 4 steps need 4 numbers falling",
    ),
    "scheduler without time nodes": ("[teacher]", '[teacher]\nscheduler = "PNDMScheduler"', "teacher: .*no time nodes"),
    "nodes that would be shifted": (
        "[teacher]",
        "[teacher]\nscheduler_config = { shift = 3.0 }",
        "teacher: The scheduler would shift",
    ),
    "alpha": ("merge", "alpha_in_file = false\nmerge", "student.lora: .*8 of its 8 layers bring an alpha"),
}


@pytest.mark.parametrize(("old", "new", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistake_is_found_with_file_and_key(write, old, new, message):
    preset = write(old, new)
    (error,) = findings(preset, nowhere)
    assert isinstance(error, PresetError)
    assert str(error).startswith(f"{preset.origin}: ") and len(str(error).splitlines()) <= 2
    with pytest.raises(PresetError, match=message):
        raise error


def test_run_says_the_same_of_a_mistake(write):
    preset = write("[student]", '[student]\nscheduler = "DDIMSheduler"')
    (expected,) = told(preset)
    with pytest.raises(PresetError) as refusal:
        finish(
            Engine({"mine": preset}, device="cpu", threads=1).sample(
                SampleRequest(preset="mine", role=Role.STUDENT, prompt="a cat", seed=1)
            )
        )
    assert str(refusal.value) == expected


def test_all_mistakes_are_found_at_once(write):
    found = told(write("[teacher]", '[teacher]\nscheduler = "Magic"\noptions = { eta = 1.0 }'))
    assert len(found) == 2


def test_lora_of_another_base_is_found_by_its_keys():
    presets = load_presets([SHIPPED])
    sd3, pixart = presets["mini-sd3"], presets["mini-pixart"]
    (found,) = told(replace(sd3, student=replace(sd3.student, lora=pixart.student.lora)))
    assert "student.lora: " in found and "do not fit this transformer" in found


def test_lora_of_another_width_is_found_by_its_shapes(write, tmp_path, tiny_system):
    shutil.copytree(tiny_system / "lora", tmp_path / "lora")
    change_lora(tmp_path / "lora" / LORA, lambda tensors, meta: ({k: v.repeat(2, 2) for k, v in tensors.items()}, meta))
    (found,) = told(write(f"{tiny_system}/lora", str(tmp_path / "lora")))
    assert "student.lora: " in found and "lora_A.weight [8, 64]" in found


def test_damaged_files_are_no_mistake_of_the_preset(write, tmp_path, tiny_system):
    shutil.copytree(tiny_system / "lora", tmp_path / "lora")
    file = tmp_path / "lora" / LORA
    file.write_bytes(file.read_bytes()[:-50])
    (error,) = findings(write(f"{tiny_system}/lora", str(tmp_path / "lora")), nowhere)
    assert isinstance(error, LoadError) and str(file) in str(error)


def test_base_that_is_no_whole_pipeline_is_told(write, tmp_path, tiny_system):
    shutil.copytree(tiny_system / "base", tmp_path / "base")
    config = tmp_path / "base" / "transformer" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"_class_name": "NoSuchModel"}))
    (found,) = told(write(f"{tiny_system}/base", str(tmp_path / "base")))
    assert found.startswith(f"{tmp_path}/base: cannot be read as a pipeline: ") and "NoSuchModel" in found


def test_base_that_is_not_here_leaves_what_its_class_decides(write):
    preset = write("[student]", '[student]\nscheduler = "Magic"\noptions = { eta = 1.0 }')
    option, scheduler = told(replace(preset, base="someone/base"))
    assert "student: options: " in option and "student: scheduler: " in scheduler


def test_base_and_lora_in_the_hubs_cache_are_looked_into(write, tiny_system, tmp_path):
    preset = write("width = 32", "width = 100")
    preset = replace(preset, base="someone/base", student=replace(preset.student, lora="someone/lora"))
    (tmp_path / "lora").mkdir()
    tensors = load_file(tiny_system / "lora" / LORA)
    save_file({key.replace("transformer.", "unet."): value for key, value in tensors.items()}, tmp_path / "lora" / LORA)
    cache = {"someone/base": tiny_system / "base", "someone/lora": tmp_path / "lora"}
    size, lora = told(preset, lambda repository, revision: cache[repository])
    assert "multiples of 8 only" in size and "do not fit this transformer" in lora


@pytest.mark.parametrize("name", ["dmd2-sdxl", "lightning-sdxl"])
def test_lora_whose_alpha_was_lost_is_refused_rather_than_run_eight_times_too_strong(name, tmp_path):
    """Their strength 1 is that of alpha 8 at rank 64, which their files are known to bring."""
    preset = load_presets([SHIPPED])[name]
    base = tiny.save_base("sdxl", tmp_path / "base", variant="fp16")
    lora = tiny.as_kohya(tiny.random_lora(tiny.sdxl().unet, tiny.UNET), 1.0)
    student = replace(preset.student, lora=str(tmp_path))
    preset = replace(preset, base=str(base), revision=None, width=64, height=64, student=student)
    save_file(lora, tmp_path / preset.student.file)
    assert told(preset) == []
    save_file({key: value for key, value in lora.items() if "alpha" not in key}, tmp_path / preset.student.file)
    (found,) = told(preset)
    assert "student.lora: " in found and "0 of its" in found and "bring an alpha" in found


def test_shipped_presets_have_no_mistakes():
    for preset in load_presets([SHIPPED]).values():
        assert told(preset) == []
