"""What lands in the repository: sizes that a Space accepts, licences, nothing of one machine."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.needs import need

ROOT = Path(__file__).parents[1]
MB = 1_000_000


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    """Files under version control that are there."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    need(listed.returncode == 0, "this is no git checkout, so nobody knows which files belong to it")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def size(paths) -> int:
    return sum(path.stat().st_size for path in paths)


def under(paths, folder):
    return [path for path in paths if path.is_relative_to(ROOT / folder)]


def test_every_tracked_file_is_below_10_mb(tracked):
    assert [path for path in tracked if path.stat().st_size >= 10 * MB] == []


@pytest.mark.parametrize(
    ("folder", "budget_mb"), [(".", 60), ("assets", 54), ("assets/models", 50)], ids=["tree", "assets", "models"]
)
def test_folder_is_within_its_budget(tracked, folder, budget_mb):
    assert size(under(tracked, folder)) <= budget_mb * MB


def test_mini_sd3_and_its_student_are_within_22_mb(tracked):
    minis = [*under(tracked, "assets/models/mini-sd3"), *under(tracked, "assets/models/mini-sd3-any-tdm")]
    assert size(minis) <= 22 * MB


def test_no_file_names_a_path_of_one_machine_or_a_registry(tracked):
    # Spelt in pieces, so that this file does not find itself.
    machine = re.compile(r"(^|[^A-Za-z0-9_.])/(wor" + r"k|far" + r"m|roo" + r"t)/[A-Za-z0-9_.]", re.MULTILINE)
    registry = re.compile(r"(pyp" + r"i|pythonhoste" + r"d|npmj" + r"s|deb\.debia" + r"n)\.(org|com)")
    found = []
    for path in tracked:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # weights and pictures
        found += [(path.name, hit.group()) for pattern in (machine, registry) for hit in pattern.finditer(text)]
    assert found == []


def test_licences_lie_beside_what_they_cover():
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "SIL OPEN FONT LICENSE" in (ROOT / "assets/scenes/OFL.txt").read_text(encoding="utf-8").upper()
