"""TOML becomes frozen dataclasses, and every mistake is refused with the file and the key named."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from tdm_core.errors import ConfigError
from tdm_core.toml_config import from_mapping, from_toml, read_toml


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    learning_rate: float
    betas: tuple[float, float] = (0.0, 0.95)
    kind: Literal["adamw", "sgd"] = "adamw"

    def __post_init__(self):
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    optimizer: Optimizer
    iterations: int = 10
    base: Path = Path("base")
    resume: bool = False
    note: str = ""
    schedule: str | int | None = None
    targets: tuple[str, ...] = ()
    strengths: dict[str, float] = field(default_factory=dict)
    stages: tuple[Optimizer, ...] = ()


GOOD = """
iterations = 3
base = "models/x"
schedule = 7
targets = ["to_q", "to_k"]
[optimizer]
learning_rate = 1
[strengths]
face = 2
[[stages]]
learning_rate = 0.5
"""


def write(folder, text):
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_kind_of_value_is_converted(tmp_path):
    recipe = from_toml(Recipe, write(tmp_path, GOOD))
    assert recipe == Recipe(
        iterations=3,
        base=Path("models/x"),
        schedule=7,
        targets=("to_q", "to_k"),
        optimizer=Optimizer(learning_rate=1.0),
        strengths={"face": 2.0},
        stages=(Optimizer(learning_rate=0.5),),
    )
    assert isinstance(recipe.optimizer.learning_rate, float)


@pytest.mark.parametrize(
    ("line", "where", "why"),
    [
        ("itrations = 3", "", "unknown key 'itrations'"),
        ("iterations = 3.5", "iterations: ", "expected int, got 3.5"),
        ("iterations = true", "iterations: ", "expected int, got True"),
        ("iterations = '3'", "iterations: ", "expected int, got '3'"),
        ("resume = 1", "resume: ", "expected bool, got 1"),
        ("note = ['a']", "note: ", "expected str, got ['a']"),
        ("base = 4", "base: ", "expected Path, got 4"),
        ("schedule = [1]", "schedule: ", "got [1]"),
        ("targets = 'to_q'", "targets: ", "got 'to_q'"),
        ("targets = ['to_q', 2]", "targets[1]: ", "expected str, got 2"),
        ("strengths = {face = 'much'}", "strengths.face: ", "expected float, got 'much'"),
        ("optimizer = 3", "optimizer: ", "expected a table, got 3"),
        ("optimizer = {}", "optimizer: ", "missing key 'learning_rate'"),
        ("optimizer = {learning_rate = 1, lr = 2}", "optimizer: ", "unknown key 'lr'"),
        ("optimizer = {learning_rate = true}", "optimizer: learning_rate: ", "expected float, got True"),
        ("optimizer = {learning_rate = 1, kind = 'adam'}", "optimizer: kind: ", "not one of 'adamw', 'sgd'"),
        ("optimizer = {learning_rate = 1, betas = [0.9]}", "optimizer: betas: ", "expected 2 values, got 1"),
        ("optimizer = {learning_rate = 0}", "optimizer: ", "learning_rate must be above 0, got 0"),
    ],
)
def test_mistake_is_refused_with_file_and_key(tmp_path, line, where, why):
    text = line if line.startswith("optimizer") else f"{line}\noptimizer = {{learning_rate = 1}}"
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        from_toml(Recipe, path)
    message = str(caught.value)
    assert message.startswith(f"{path}: {where}")
    assert why in message
    assert message.count("\n") == 0


def test_unknown_key_is_answered_with_the_known_ones(tmp_path):
    with pytest.raises(ConfigError, match="known here: learning_rate, betas, kind"):
        from_mapping(Optimizer, {"lr": 1}, where="x.toml")


def test_key_without_default_must_be_there(tmp_path):
    with pytest.raises(ConfigError, match=r"recipe\.toml: missing key 'optimizer'"):
        from_toml(Recipe, write(tmp_path, "iterations = 3"))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("iterations=5", 5),
        ("base=other", Path("other")),
        ("base='other folder'", Path("other folder")),
        ("note=", ""),
        ("note=a word = another", "a word = another"),
        ("targets=['v']", ("v",)),
        ("strengths.hand=0.5", {"face": 2.0, "hand": 0.5}),
        ("resume=true", True),
    ],
)
def test_override_wins_over_the_file(tmp_path, override, expected):
    recipe = from_toml(Recipe, write(tmp_path, GOOD), [override])
    assert getattr(recipe, override.split("=")[0].split(".")[0]) == expected


def test_override_reaches_into_a_table_and_the_last_one_wins(tmp_path):
    overrides = ["optimizer.learning_rate=2", "optimizer.kind=sgd", "optimizer.learning_rate=3"]
    recipe = from_toml(Recipe, write(tmp_path, GOOD), overrides)
    assert recipe.optimizer == Optimizer(learning_rate=3.0, kind="sgd")


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("iterations", "write it as section.key=value"),
        ("=3", "write it as section.key=value"),
        ("iterations.deep=3", "'iterations' is not a table"),
        ("itrations=3", "unknown key 'itrations'"),
        ("iterations=many", "expected int, got 'many'"),
    ],
)
def test_bad_override_is_refused(tmp_path, override, why):
    with pytest.raises(ConfigError, match=why):
        from_toml(Recipe, write(tmp_path, GOOD), [override])


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_text("a = ", encoding="utf-8"), "not valid TOML"),
        (lambda path: path.write_bytes(b"a = '\xff'"), "not valid TOML"),
    ],
    ids=["missing", "folder", "broken", "not utf-8"],
)
def test_unreadable_file_is_named(tmp_path, make, why):
    path = tmp_path / "recipe.toml"
    make(path)
    with pytest.raises(ConfigError) as caught:
        read_toml(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert why in str(caught.value)


def test_path_through_a_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: Not a directory"):
        read_toml(write(tmp_path, "a = 1") / "deeper.toml")
