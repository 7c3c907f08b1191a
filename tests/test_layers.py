"""The layers of the project, executable: who may import whom, and what a pure import must not load.

Every import counts, also inside functions, under ``TYPE_CHECKING`` and by ``import_module("...")``.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "tdm_core"


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What a package (or one module of it) may import besides the standard library and itself."""

    ours: frozenset[str]
    others: frozenset[str]


def layer(ours: str = "", others: str = "") -> Layer:
    return Layer(ours=frozenset(ours.split()), others=frozenset(others.split()))


METRIC_PACKAGES = "torch diffusers transformers safetensors huggingface_hub PIL imageio_ffmpeg"

# The longest name that fits a module wins, so that one file may be lifted without its package.
LAYERS = {
    "errors": layer(),
    "stats": layer(others="numpy scipy"),
    "settings": layer(ours="errors"),
    "logs": layer(ours="settings"),
    "toml_config": layer(ours="errors"),
    "diffusion": layer(ours="errors", others="torch"),
    "study": layer(ours="errors stats toml_config", others="numpy"),
    "scenes": layer(ours="errors", others="numpy scipy PIL"),
    "backbones": layer(
        ours="errors diffusion", others="torch numpy diffusers transformers tokenizers peft safetensors huggingface_hub"
    ),
    "generation": layer(ours="errors toml_config", others="PIL numpy imageio_ffmpeg"),
    "generation.engine": layer(
        ours="errors toml_config backbones", others="PIL numpy torch diffusers huggingface_hub safetensors"
    ),
    "serving": layer(ours="errors generation", others="ray numpy"),
    "training": layer(
        ours="errors toml_config diffusion backbones",
        others="torch numpy PIL accelerate safetensors huggingface_hub filelock tqdm",
    ),
    "evaluation": layer(ours="errors toml_config stats scenes generation evaluation.metrics", others="numpy PIL"),
    "evaluation.metrics": layer(ours="errors stats scenes generation", others=f"numpy scipy {METRIC_PACKAGES}"),
    "storage": layer(ours="errors study", others="sqlalchemy alembic huggingface_hub"),
    "ui": layer(
        ours="errors study generation.sample generation.presets generation.media",
        others="gradio starlette itsdangerous numpy PIL",
    ),
}
ENTRY_POINTS = {"__main__", "commands", "wiring"}  # they parse, wire and start


def imported_names(tree: ast.AST, package: str) -> Iterator[str]:
    """Absolute names of everything a module imports; ``package`` is where its relative imports start."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                yield str(node.args[0].value)


def covers(allowed: str, name: str) -> bool:
    return name == allowed or name.startswith(allowed + ".")


def layer_of(module: str) -> str:
    """The most specific row of the table for a module, named without ``tdm_core.``."""
    rows = [row for row in LAYERS if covers(row, module)]
    assert rows, f"tdm_core.{module} has no row in the table of layers: give it one, or a home that has"
    return max(rows, key=len)


def offences(module: str, source: str) -> list[str]:
    """What ``tdm_core.<module>`` imports and may not."""
    row = layer_of(module)
    allowed, home = LAYERS[row], row.split(".")[0]
    found = []
    for name in imported_names(ast.parse(source), f"tdm_core.{module}".rpartition(".")[0]):
        top = name.split(".")[0]
        if top == "tdm_core":
            target = name.removeprefix("tdm_core").lstrip(".")
            # Inside its own package a module sees all but the files that have a row of their own.
            inside = covers(home, target) and layer_of(target) in (home, row)
            if not inside and not any(covers(ours, target) for ours in allowed.ours):
                found.append(name)
        elif top not in sys.stdlib_module_names and top not in allowed.others:
            found.append(name)
    return found


def core_modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(CORE.rglob("*.py")):
        parts = path.relative_to(CORE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name and name.split(".")[0] not in ENTRY_POINTS:
            found.append((name, path))
    return found


@pytest.mark.parametrize(("module", "path"), core_modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_module_imports_only_what_its_layer_may(module, path):
    package = module + ".x" if path.name == "__init__.py" else module  # a package is the start of its own relatives
    assert offences(package, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("study.service", "import torch"),
        ("study.service", "from tdm_core.storage import store"),
        ("study.service", "from tdm_core import storage"),
        ("study.service", "def late():\n    from ..generation import sample"),
        ("diffusion.noise", "import importlib\nimportlib.import_module('diffusers')"),
        ("diffusion.noise", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import diffusers"),
        ("ui.compare", "from tdm_core.generation.engine import Engine"),
        ("ui.compare", "from tdm_core.generation import engine"),
        ("ui.compare", "from tdm_core import generation"),
        ("ui.compare", "import torch.nn"),
        ("training.trainer", "from tdm_core.scenes import render"),
        ("generation.sample", "import torch"),
        ("generation.sample", "from tdm_core.generation.engine import Engine"),
        ("evaluation.harness", "import torch"),
        ("storage.store", "import gradio"),
        ("errors", "import numpy"),
    ],
)
def test_forbidden_import_is_found(module, source):
    assert len(offences(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("study.service", "from tdm_core.study.trials import Trial"),
        ("study.service", "from .trials import Trial"),
        ("ui.compare", "from tdm_core.generation.sample import SampleRequest"),
        ("ui.compare", "from tdm_core.generation import sample"),
        ("generation.engine", "import torch\nfrom tdm_core.generation.sample import Sample"),
        ("evaluation.metrics.frechet", "import torch\nfrom tdm_core.evaluation.manifest import Manifest"),
        ("training.trainer", "from tdm_core.diffusion import noise"),
    ],
)
def test_allowed_import_passes(module, source):
    assert offences(module, source) == []


def test_only_the_app_imports_spaces():
    sources = [
        path for folder in ("tdm_core", "train", "benchmarks", "hosting") for path in (ROOT / folder).rglob("*.py")
    ]
    for path in sources:
        names = list(imported_names(ast.parse(path.read_text("utf-8")), ""))
        assert not any(covers("spaces", name) for name in names), path


def importable(*packages: str) -> list[str]:
    names = [module for module, _ in core_modules() if any(covers(package, module) for package in packages)]
    return [f"tdm_core.{name}" for name in names if layer_of(name) != "generation.engine"]


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        pytest.param(
            ["tdm_core", *importable("errors", "settings", "toml_config", "stats", "study", "scenes")],
            {"torch", "gradio", "diffusers", "transformers", "sqlalchemy"},
            id="pure",
        ),
        pytest.param(importable("storage"), {"torch", "gradio", "diffusers"}, id="storage"),
        pytest.param(importable("ui"), {"torch", "diffusers", "sqlalchemy"}, id="ui"),
        pytest.param(importable("diffusion"), {"diffusers", "transformers", "gradio"}, id="diffusion"),
        pytest.param(
            importable("generation", "evaluation"),
            {"torch", "gradio", "diffusers", "sqlalchemy"},
            id="generation and evaluation without the engine",
        ),
    ],
)
def test_import_loads_no_framework_of_another_layer(modules, unwanted):
    program = f"import sys, {', '.join(modules)}; print(*(sys.modules.keys() & {unwanted!r}))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
