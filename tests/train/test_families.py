"""The recipes of full-size systems, as committed: planned offline, and run on tiny bases of the same classes."""

import json
import socket
import tomllib
from pathlib import Path

import pytest
import torch

from tdm_core.backbones.lora_file import read_lora
from tdm_core.backbones.stock_training import training_class
from tdm_core.generation.presets import SHIPPED
from tdm_core.training.config import DistillConfig
from tests import tiny_systems
from train.distill import main

CONFIGS = Path(__file__).parents[2] / "train" / "configs"
BASES = {
    "sd15": "sd15",
    "sdxl-512": "sdxl",
    "sdxl-1024": "sdxl",
    "pixart-alpha-512": "pixart",
    "pixart-alpha-1024": "pixart1024",
    "sd3": "sd3",
    "sd35-medium": "sd35",
    "cogvideox-2b": "cogvideox",
}
"""Recipe -> its tiny base."""

SIZES = {"sdxl-512": [32, 32], "cogvideox-2b": [64, 64, 9]}
"""Of tiny samples; others are of 64 x 64 px."""

CHANGES = (
    "lora.rank=2",
    "lora.alpha=4",
    "optimiser.iterations=2",
    "optimiser.batch_size=2",
    "optimiser.warmup_iterations=0",
    "run.threads=1",
    "run.micro_batch=1",
    "run.tracker=none",
    "run.preview_teacher_steps=2",
)
"""What is made small; all else is the recipe's own."""


def run(name, folder, *changes):
    base = folder / BASES[name]
    if not base.exists():
        tiny_systems.save_base(BASES[name], base)
    (folder / "prompts.txt").write_text("# Licence: CC0\na cat\ntwo dogs\n")
    places = (
        f"base.path={base}",
        f"base.size={SIZES.get(name, [64, 64])}",
        f"prompts.file={folder}/prompts.txt",
        f"run.folder={folder}/{name}-run",
        f"run.text_cache={folder}/text",
        f"export.folder={folder}/{name}-student",
    )
    overrides = [part for change in (*places, *CHANGES, *changes) for part in ("--set", change)]
    return main([str(CONFIGS / f"{name}.toml"), *overrides])


def student_of(name, folder):
    """The exported LoRA's layers, read as any loader reads them."""
    training = training_class(DistillConfig.read(CONFIGS / f"{name}.toml").base.family)
    base = tiny_systems.BASES[BASES[name]]()
    (file,) = (folder / f"{name}-student").glob("*.safetensors")
    return read_lora(file, getattr(base, training.family.DENOISER), prefix=training.family.DENOISER)


def test_every_recipe_but_the_minis_is_tried_here():
    assert {path.stem for path in CONFIGS.glob("*.toml") if not path.stem.startswith("mini-")} == BASES.keys()


@pytest.mark.parametrize("name", BASES)
def test_every_recipe_can_be_planned_offline(name, capsys, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a dry run must not connect")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert main([str(CONFIGS / f"{name}.toml"), "--dry-run"]) == 0
    out = capsys.readouterr().out
    needs = json.loads(out[out.rindex("\n{\n") :])
    assert needs["lora_parameters"] > 1e7 and needs["petaflops_per_iteration"] > 0


def test_presets_whose_student_is_made_here_find_it_where_the_recipes_put_it():
    presets = [tomllib.loads(path.read_text(encoding="utf-8")) for path in SHIPPED.glob("*.toml")]
    wanted = {preset["student"]["lora"]: preset["base"] for preset in presets if preset["student"].get("made_here")}
    recipes = [DistillConfig.read(CONFIGS / f"{name}.toml") for name in BASES]
    made = {recipe.export.folder.as_posix(): recipe.base.path for recipe in recipes}
    assert wanted.items() <= made.items() and len(wanted) == 4


@pytest.mark.parametrize("name", [name for name in BASES if name not in ("sdxl-512", "sdxl-1024")])
def test_two_iterations_of_every_recipe_make_a_student(name, tmp_path, capsys):
    assert run(name, tmp_path) == 0, capsys.readouterr().err
    layers = student_of(name, tmp_path)
    assert {layer.scale for layer in layers.values()} == {2.0}
    assert any(layer.b.any() for layer in layers.values())  # it has learned something
    assert (tmp_path / f"{name}-student" / "samples.png").is_file()


def test_sdxls_second_stage_goes_on_from_the_first_ones_student(tmp_path, capsys):
    """Two iterations each; the second's own start, of another seed, would be nowhere near."""
    assert run("sdxl-512", tmp_path) == 0, capsys.readouterr().err
    assert run("sdxl-1024", tmp_path, f"base.student={tmp_path}/sdxl-512-student") == 0, capsys.readouterr().err
    first, second = student_of("sdxl-512", tmp_path), student_of("sdxl-1024", tmp_path)
    assert any(layer.b.any() for layer in first.values())
    assert any(not torch.equal(second[name].b, layer.b) for name, layer in first.items())
    for name, layer in first.items():
        torch.testing.assert_close(second[name].a, layer.a, atol=1e-3, rtol=0.01)  # in bfloat16


def test_a_second_stage_that_keeps_nearly_all_of_the_first_is_nearly_the_first(tmp_path, capsys):
    assert run("sd15", tmp_path) == 0, capsys.readouterr().err
    second = (f"base.student={tmp_path}/sd15-student", "base.student_kept=0.999", "optimiser.student_lr=0.1")
    places = (f"run.folder={tmp_path}/run", f"export.folder={tmp_path}/second/sd15-student")
    assert run("sd15", tmp_path, *second, *places) == 0, capsys.readouterr().err
    after = student_of("sd15", tmp_path / "second")
    for name, layer in student_of("sd15", tmp_path).items():  # without, each iteration moves a weight by 0.1
        torch.testing.assert_close(after[name].a, layer.a, atol=3e-3, rtol=0.01)
        torch.testing.assert_close(after[name].b, layer.b, atol=3e-3, rtol=0.01)


def test_the_second_stage_without_the_first_is_told_so(tmp_path, capsys):
    tiny_systems.save_base("sdxl", tmp_path / "sdxl")
    capsys.readouterr()  # diffusers' own bars
    assert run("sdxl-1024", tmp_path, f"base.student={tmp_path}/nowhere") == 2
    error = capsys.readouterr().err
    assert "nowhere: holds no pytorch_lora_weights.safetensors" in error and len(error.strip().splitlines()) == 2
