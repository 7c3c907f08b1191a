"""The exported student: what its file says, and that its card's example works as printed."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from tdm_core.backbones.base import Size
from tdm_core.errors import TrainingError
from tdm_core.generation.plan import lora_metadata
from tdm_core.training.config import TrajectoryConfig
from tdm_core.training.export import Provenance, check_export, export_student
from tests.training.recipes import recipe, tiny_trainer

PROVENANCE = Provenance(iterations=12, minutes=3.4, machine="2 threads", commit="abc1234", num_prompts=20_000)


@pytest.fixture
def config(tiny_system, tmp_path):
    return recipe(tmp_path, base={"path": str(tiny_system / "base")})


@pytest.fixture
def trainer(config):
    return tiny_trainer(config)


def export(config, trainer, **options):
    return export_student(config, trainer.backbone, trainer.ema, PROVENANCE, **options)


def test_the_file_tells_a_sampler_all_it_must_know(config, trainer):
    about = json.loads(lora_metadata(export(config, trainer))["tdm"])
    assert about == {
        "sigmas": {"4": [1.0, 0.818182, 0.6, 0.333333]},
        "timesteps": {"4": [1000.0, 818.182, 600.0, 333.333]},
        "base": config.base.path,
        "method": "tdm",
        "prediction_type": "flow_prediction",
        "trained_steps": [4],
        "guidance_scale": 1.0,
        "teacher_guidance_scale": 3.0,
        "max_sequence_length": 0,
        "size": [32, 32],
        "config_hash": config.hash,
        "iterations": 12,
    }


def test_every_trained_number_of_steps_has_its_grid(config, trainer):
    config = replace(config, trajectory=TrajectoryConfig(steps=2, nodes=(0.9, 0.4), also_steps=(1, 3)))
    about = json.loads(lora_metadata(export(config, trainer))["tdm"])
    assert about["sigmas"] == {"2": [0.9, 0.4], "1": [0.9], "3": [0.9, 0.6, 0.3]}
    assert about["trained_steps"] == [2, 1, 3]
    assert "1, 2 or 3 network evaluations" in (config.export.folder / "README.md").read_text()


def test_all_files_can_be_read_by_all(config, trainer):
    export(config, trainer, samples=Image.new("RGB", (64, 96)))
    files = {path.name: path.stat().st_mode & 0o777 for path in config.export.folder.iterdir()}
    (config.export.folder / "ordinary").touch()
    ordinary = (config.export.folder / "ordinary").stat().st_mode & 0o777  # 0644 under the usual umask
    assert len(files) == 4 and set(files.values()) == {ordinary}


def test_the_card_shows_samples_with_their_prompts(config, trainer):
    config = replace(config, run=replace(config.run, preview_prompts=("a cat", "two dogs")))
    export(config, trainer, samples=Image.new("RGB", (64, 96)))
    card = (config.export.folder / "README.md").read_text()
    assert "(samples.png)" in card and "1. a cat\n2. two dogs" in card
    with Image.open(config.export.folder / "samples.png") as samples:
        assert samples.size == (64, 96)


def test_an_export_that_fails_leaves_the_student_before_it(config, trainer, monkeypatch):
    before = export(config, trainer).read_bytes()

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(trainer.backbone), "save_lora", fail)
    with pytest.raises(TrainingError, match=r"cannot be written: No space left on device\n.*--resume"):
        export(config, trainer)
    assert (config.export.folder / "pytorch_lora_weights.safetensors").read_bytes() == before
    assert not list(config.export.folder.parent.glob(".draft*"))


def test_the_cards_example_runs_as_printed(config, trainer, monkeypatch):
    export(config, trainer)
    card = (config.export.folder / "README.md").read_text()
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL).group(1)
    names: dict = {}
    exec(code, names)
    assert names["picture"].size == (32, 32)
    assert len(names["pipe"].scheduler.timesteps) == 4


def test_the_card_of_another_size_than_the_bases_says_so_and_its_example_makes_it(config, trainer, monkeypatch):
    config = recipe(config.export.folder.parent, base={"path": config.base.path, "size": [48, 32]})
    monkeypatch.setattr(trainer.backbone, "size", Size(width=48, height=32))
    export(config, trainer)
    card = (config.export.folder / "README.md").read_text()
    assert "no guidance, 48 x 32 pixels." in card
    names: dict = {}
    exec(re.search(r"```python\n(.*?)```", card, re.DOTALL).group(1), names)
    assert names["picture"].size == (48, 32)


def test_a_videos_card_counts_its_frames(config, trainer, monkeypatch):
    monkeypatch.setattr(trainer.backbone, "size", Size(width=48, height=32, frames=9))
    about = json.loads(lora_metadata(export(config, trainer))["tdm"])
    assert about["size"] == [48, 32, 9]
    assert "no guidance, 48 x 32 pixels, 9 frames." in (config.export.folder / "README.md").read_text()


def test_a_student_of_another_recipe_is_replaced_only_if_told(config, trainer):
    check_export(config)  # nothing there
    export(config, trainer)
    check_export(config)  # its own
    other = replace(config, seed=1)
    with pytest.raises(TrainingError, match=rf"another recipe, {config.hash}; this one is {other.hash}.\n.*--replace"):
        check_export(other)
    check_export(other, replace=True)


@pytest.mark.parametrize("name", ["README.md", "recipe.json", "adapter_model.safetensors"])
def test_what_no_recipe_made_is_replaced_only_if_told(config, name):
    config.export.folder.mkdir(parents=True)
    (config.export.folder / name).write_text("mine")
    with pytest.raises(TrainingError, match=rf"holds a {name} that no recipe made.*\n.*--replace"):
        check_export(config)
    check_export(config, replace=True)


def test_a_base_is_no_place_for_a_student(config):
    config = replace(config, export=replace(config.export, folder=Path(config.base.path)))
    with pytest.raises(TrainingError, match=r"holds a whole pipeline.*\n.*export.folder"):
        check_export(config, replace=True)


def test_a_file_is_no_place_for_a_student(config, tmp_path):
    (tmp_path / "student").touch()
    with pytest.raises(TrainingError, match=r"is a file.\nName a folder"):
        check_export(config, replace=True)


def test_the_card_of_a_second_stage_names_the_first(config, trainer):
    base = replace(config.base, student=Path("runs/first/export"), student_kept=0.5)
    export(replace(config, base=base), trainer)
    card = (config.export.folder / "README.md").read_text()
    assert "| begun from | the student in `runs/first/export`; 0.5 of its weights are kept |\n| time |" in card


def test_the_card_says_how_the_student_was_made(config, trainer):
    export(config, trainer)
    card = (config.export.folder / "README.md").read_text()
    for fact in (config.hash, "abc1234", "12 of batch 8", "20,000 prompts", "3.4 minutes on 2 threads", "## Scores"):
        assert fact in card


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_are_stored_in_the_type_asked_for(config, trainer, dtype):
    config = recipe(config.export.folder.parent, base={"path": config.base.path}, export={"dtype": dtype})
    with safe_open(export(config, trainer), framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {getattr(torch, dtype)}


def test_a_second_export_replaces_the_first_and_leaves_no_draft(config, trainer):
    first = export(config, trainer).read_bytes()
    for average in trainer.ema.values():
        average.add_(1)
    assert export(config, trainer).read_bytes() != first
    assert {path.name for path in config.export.folder.iterdir()} == {
        "README.md",
        "recipe.json",
        "pytorch_lora_weights.safetensors",
    }
    assert not list(config.export.folder.parent.glob(".draft*"))
