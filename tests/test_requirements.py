"""Dependencies: each has a range, a purpose and an exact version, and is imported; nothing else is."""

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
BROUGHT_BY_THE_PLATFORM = {"spaces", "ray"}  # imported only where a Space or a cluster has them
# SQLAlchemy speaks by the first, accelerate's tracker writes by the second, Gradio logs in by the third.
IMPORTED_BY_OTHERS = {"psycopg", "tensorboardx", "authlib"}


def lines(name):
    return [line for line in (ROOT / name).read_text("utf-8").splitlines() if line[:1].isalpha()]


def names(file):
    return {canonicalize_name(Requirement(line.partition("#")[0]).name) for line in lines(file)}


def imported_distributions(*places):
    files = [path for place in places for path in ([place] if place.is_file() else place.rglob("*.py"))]
    modules = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules.add(node.module.split(".")[0])
    foreign = modules - sys.stdlib_module_names - {"tdm_core", "train", "benchmarks", "hosting", "tests", "app"}
    homes = packages_distributions()
    return {canonicalize_name(homes[module][0] if module in homes else module) for module in foreign}


def test_every_requirement_has_an_exact_version_and_a_purpose():
    pinned = {canonicalize_name(line.split("==")[0]) for line in lines("constraints.txt")}
    for line in [*lines("requirements.txt"), *lines("requirements-dev.txt")]:
        requirement, _, purpose = line.partition("#")
        assert canonicalize_name(Requirement(requirement).name) in pinned, line
        assert purpose.strip(), f"{line}: say what it is for"


def test_pins_are_exact_and_without_a_local_version():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()[1:]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []


def test_app_imports_what_it_requires_and_nothing_else():
    imported = imported_distributions(ROOT / "tdm_core", ROOT / "train", ROOT / "app.py")
    required = names("requirements.txt")
    assert imported - BROUGHT_BY_THE_PLATFORM - required == set()
    assert required - imported - IMPORTED_BY_OTHERS == set()


def test_benchmarks_import_what_the_app_or_the_tests_require():
    imported = imported_distributions(ROOT / "benchmarks")
    assert imported - names("requirements.txt") - names("requirements-dev.txt") == set()


def test_tests_import_what_they_require_and_nothing_else():
    imported = imported_distributions(ROOT / "tests")
    required = names("requirements-dev.txt")
    assert imported - names("requirements.txt") - required == set()
    of_benchmarks = imported_distributions(ROOT / "benchmarks")
    assert required - imported - of_benchmarks - {"ruff", "mypy", "pytest-xdist"} == set()
