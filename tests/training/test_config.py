"""Recipes: what is refused, what the hash covers, and that the committed ones are whole."""

import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

import pytest

from tdm_core.errors import ConfigError
from tdm_core.training.config import DistillConfig
from tests.training.recipes import recipe

NAN, INF = float("nan"), float("inf")

RECIPES = sorted((Path(__file__).parents[2] / "train" / "configs").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_committed_recipes_can_be_read(path):
    config = DistillConfig.read(path)
    assert config.title == path.stem


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"optimiser": {"learning_rate": 1.0}}, r"optimiser: unknown key 'learning_rate'"),
        ({"objective": {"guidance_scale": 0.5}}, r"guidance_scale must be at least 1, got 0.5"),
        ({"objective": {"fake_target": "best"}}, r"fake_target: 'best' is not one of 'ambient', 'x0'"),
        ({"objective": {"margin": 0.99}}, r"margin < latest"),
        ({"trajectory": {"steps": 0}}, r"trajectory.steps must lie in 1-16, got 0"),
        ({"trajectory": {"steps": 4, "shift": 1.0}, "objective": {"margin": 0.24}}, r"the shortest of 4 segments"),
        ({"trajectory": {"eta": 1.1}}, r"trajectory.eta must lie in 0-1, got 1.1"),
        ({"objective": {"anchored_steps": 5}}, r"anchored_steps must lie in 0-4, the steps there are, got 5"),
        ({"base": {"student_kept": 0.5}}, r"base.student_kept must lie in 0-1, and needs base.student, got 0.5"),
        ({"trajectory": {"turns": 0}}, r"trajectory.turns must be at least 1, got 0"),
        ({"trajectory": {"also_steps": [4]}}, r"also_steps must be numbers in 1-16, each once and not 4"),
        ({"trajectory": {"nodes": [1.0, 0.5]}}, r"4 steps need 4 numbers, got 2"),
        ({"trajectory": {"nodes": [1.0, 0.5, 0.6, 0.2]}}, r"nodes must fall from at most 1 to above 0"),
        ({"trajectory": {"nodes": [999, 749, 499, 249]}}, r"nodes must fall from at most 1"),
        ({"trajectory": {"also_steps": [16]}, "objective": {"margin": 0.06}}, r"the shortest of 16 segments"),
        ({"objective": {"fake_times": {"law": "beta"}}}, r"law: 'beta' is not one of"),
        ({"objective": {"student_times": {"std": 0.0}}}, r"std must be positive"),
        ({"objective": {"teacher_weight": -1.0}}, r"must not be negative"),
        ({"run": {"micro_batch": -1}}, r"run.micro_batch must not be negative"),
        ({"base": {"size": [512]}}, r"base.size must be \[width, height\]"),
        ({"lora": {"rank": 0}}, r"lora.rank must be at least 1"),
        ({"lora": {"targets": []}}, r"lora.targets is empty"),
        ({"optimiser": {"batch_size": 0}}, r"batch_size must be at least 1"),
        ({"optimiser": {"decay_share": 1.5}}, r"decay_share must lie in 0-1"),
        ({"optimiser": {"student_lr": -1.0}}, r"must not be negative, got student_lr -1.0"),
        ({"optimiser": {"student_lr": NAN}}, r"must not be negative, got student_lr nan"),
        ({"optimiser": {"fake_lr": NAN}}, r"optimiser.fake_lr must be a finite number, got nan"),
        ({"optimiser": {"fake_lr": INF}}, r"optimiser.fake_lr must be a finite number, got inf"),
        ({"optimiser": {"betas": [0.0, 2.0]}}, r"betas must lie in \[0, 1\), got \[0.0, 2.0\]"),
        ({"optimiser": {"weight_decay": -1.0}}, r"weight_decay -1.0"),
        ({"optimiser": {"student_clip": 0.0}}, r"clips must be positive \(inf: none\), got 0.0"),
        ({"optimiser": {"fake_clip": NAN}}, r"optimiser.fake_clip must be a finite number, got nan"),
        ({"optimiser": {"warmup_iterations": -1}}, r"warmup_iterations must not be negative"),
        ({"objective": {"anchor_weight": NAN}}, r"anchor_weight must be a finite number, got nan"),
        ({"run": {"preview_teacher_steps": 0}}, r"preview_teacher_steps must be at least 1, got 0"),
        ({"run": {"checkpoint_minutes": -1.0}}, r"checkpoint_minutes must not be negative"),
        ({"run": {"preview_seed": -1}}, r"preview_seed must lie in 0-2\^63, got -1"),
        ({"seed": -1}, r"seed must lie in 0-2\^63, got -1"),
        ({"seed": 2**63}, r"seed must lie in 0-2\^63"),
        ({"prompts": {"scenes": 5}}, r"either a file or a number of scenes"),
        ({"run": {"threads": 0}}, r"run.threads must be at least 1"),
    ],
    ids=str,
)
def test_values_out_of_range_are_refused_by_name(tmp_path, tables, message):
    with pytest.raises(ConfigError, match=message):
        recipe(tmp_path, **tables)


def test_a_role_may_go_unclipped(tmp_path):
    assert recipe(tmp_path, optimiser={"student_clip": INF}).optimiser.student_clip == INF


def test_a_key_that_came_later_leaves_the_hash_alone_until_it_is_used(tmp_path):
    many = {"also_steps": [1, 2]}
    plain = recipe(tmp_path, trajectory=many)
    assert "trajectory.turns" not in plain.made_of()
    assert recipe(tmp_path, trajectory=many | {"turns": 2}).hash != plain.hash


def test_the_hash_changes_with_what_changes_the_student_and_with_nothing_else(tmp_path):
    first = recipe(tmp_path).hash
    assert recipe(tmp_path, run={"threads": 2, "checkpoint_minutes": 1.0}, title="other").hash == first
    assert recipe(tmp_path, export={"folder": "elsewhere"}).hash == first
    for tables in ({"seed": 1}, {"optimiser": {"fake_lr": 1e-4}}, {"objective": {"guidance_scale": 2.0}}):
        assert recipe(tmp_path, **tables).hash != first


def test_every_key_is_read_somewhere():
    """The published script has 17 flags that nothing reads."""
    root = Path(__file__).parents[2]
    paths = [*(root / "tdm_core" / "training").glob("*.py"), root / "train" / "distill.py"]
    source = "".join(path.read_text(encoding="utf-8") for path in paths)
    tables = [get_type_hints(DistillConfig)[field.name] for field in fields(DistillConfig)]
    keys = {key.name for table in tables if is_dataclass(table) for key in fields(table)}
    assert len(keys) > 40
    assert not {key for key in keys if not re.search(rf"\.{key}\b", source)}
