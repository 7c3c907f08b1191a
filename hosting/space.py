"""The folder that a Hugging Face Space is made of: ``make space`` builds it from tracked files and checks it.

Upload it with ``hf upload USER/NAME build/space --repo-type space``.  Tests, pins and the trainers' caches stay behind:
a Space installs ranges (ZeroGPU brings its own torch).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
OUT = ROOT / "build" / "space"

SHIPPED = (
    "app.py",
    "tdm_core",
    "train",
    "assets",
    "benchmarks/__init__.py",
    "benchmarks/rows.py",
    "benchmarks/readme.py",
    "benchmarks/results",
    "docs/pages",
    "docs/rivals-forwards.svg",
    "docs/rivals-nfe.svg",
    "requirements.txt",
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
)
MB = 1_000_000
MOST_BYTES_A_FILE = 10 * MB  # a Space's repository wants larger ones in large-file storage
MOST_BYTES = 60 * MB
FRONT_MATTER = ("title", "sdk: gradio", "sdk_version", "app_file: app.py", "python_version", "license")

PRIVATE_NAMES = re.compile(r"(^|/)(\.env|data|runs|build|secret|\.venv|__pycache__)(/|$)|\.(sqlite3?|db|pem|key|log)$")
PRIVATE_TEXT = re.compile(
    r"\bhf_[A-Za-z0-9]{30,}|\bghp_[A-Za-z0-9]{30,}|\bsk-[A-Za-z0-9]{32,}|AKIA[0-9A-Z]{16}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|(?:^|[\s\"'=(])/(?:home|root|Users|mnt)/[a-z][\w.-]+/"
)


def build(out: Path = OUT, root: Path = ROOT) -> list[Path]:
    """Copy what is tracked and shipped into a fresh folder; the files, relative to it.

    Raises:
        SystemExit: if this is no git checkout, or a shipped file is missing.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *SHIPPED], cwd=root, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        raise SystemExit(f"make space: not a git checkout, so nobody knows what belongs to it: {listed.stderr.strip()}")
    names = [name for name in listed.stdout.split("\0") if name]
    for shipped in SHIPPED:
        if not any(name == shipped or name.startswith(f"{shipped}/") for name in names):
            raise SystemExit(f"make space: {shipped} is not under version control here")
    shutil.rmtree(out, ignore_errors=True)
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, out / name)
    return [Path(name) for name in names]


def problems(folder: Path) -> list[str]:
    """What forbids uploading this folder, one line each: sizes, licences, anything private."""
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    found = [*_sizes(folder, files), *_licences(folder, files)]
    found += [f"{name}: private, by its name" for name in files if PRIVATE_NAMES.search(name.as_posix())]
    for name in files:
        try:
            text = (folder / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # weights and pictures
        if hit := PRIVATE_TEXT.search(text):
            found.append(
                f"{name}: holds something like a secret or a path of one machine ({hit.group().strip()[:12]}…)"
            )
    readme = (folder / "README.md").read_text(encoding="utf-8") if Path("README.md") in files else ""
    front = readme.split("---")[1] if readme.startswith("---") else ""
    found += [f"README.md: its front matter lacks {key!r}" for key in FRONT_MATTER if key not in front]
    return found


def _sizes(folder: Path, files: Iterable[Path]) -> list[str]:
    sizes = {name: (folder / name).stat().st_size for name in files}
    found = [f"{name}: {size / MB:.1f} MB; at most 10" for name, size in sizes.items() if size >= MOST_BYTES_A_FILE]
    total = sum(sizes.values())
    return [*found, *([f"all files: {total / MB:.1f} MB; at most {MOST_BYTES // MB}"] if total > MOST_BYTES else [])]


def _licences(folder: Path, files: Iterable[Path]) -> list[str]:
    """The code's, the sprites', and one in the card of each model."""
    known = set(files)
    found = [f"{name}: missing" for name in ("LICENSE", "assets/scenes/OFL.txt") if Path(name) not in known]
    for model in sorted({Path(*name.parts[:3]) for name in known if name.parts[:2] == ("assets", "models")}):
        card = folder / model / "README.md"
        if not card.is_file() or not re.search(r"^license: \S", card.read_text(encoding="utf-8"), re.MULTILINE):
            found.append(f"{model}/README.md: names no licence")
    return found


def main() -> int:
    files = build()
    if found := problems(OUT):
        print("\n".join(["make space: this folder must not be uploaded:", *found]), file=sys.stderr)
        return 1
    total = sum((OUT / name).stat().st_size for name in files)
    print(f"{OUT.relative_to(ROOT)}: {len(files)} files, {total / MB:.1f} MB, nothing private, licences in place")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
