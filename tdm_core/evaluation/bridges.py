"""Programs that can only live in environments of their own: a file of commands says how each is called.

::

    [geneval]
    command = ["ENV/bin/python", "GENEVAL/evaluation/evaluate_images.py", "{pictures}", "--outfile", "{results}",
               "--model-path", "WEIGHTS"]

    [vbench]
    command = ["ENV/bin/vbench", "evaluate", "--videos_path", "{videos}", "--dimension", "{dimension}",
               "--output_path", "{results}", "--full_json_dir", "VBENCH/VBench_full_info.json"]

Words in braces are filled in; the command runs without a shell and without this environment's Python variables.
"""

from __future__ import annotations

import os
import string
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tdm_core.errors import ConfigError, EvaluationError
from tdm_core.toml_config import from_toml

PLACES = {"geneval": {"pictures", "results"}, "vbench": {"videos", "results", "dimension"}}
"""Which words each program's command must have in braces."""


@dataclass(frozen=True, kw_only=True)
class Bridge:
    """How one program is called."""

    command: tuple[str, ...]
    edition: str = ""
    """Of the program and its weights, in the user's words: part of the metric's fingerprint."""


@dataclass(frozen=True, kw_only=True)
class _Bridges:
    geneval: Bridge | None = None
    vbench: Bridge | None = None


def load_bridge(name: str, path: Path | None) -> Bridge:
    """The bridge of this name in a file of bridges.

    Raises:
        ConfigError: without a file, without that bridge in it, or if its command lacks a place.
    """
    if path is None:
        raise ConfigError(
            f"--metrics {name}: runs in an environment of its own; name its command with --bridges FILE.\n"
            "How such a file looks: tdm_core/evaluation/bridges.py"
        )
    bridge: Bridge | None = getattr(from_toml(_Bridges, path), name)
    if bridge is None or not bridge.command:
        raise ConfigError(f"{path}: says nothing of {name}: add [{name}] with its command")
    try:
        named = {field for part in bridge.command for _, field, _, _ in string.Formatter().parse(part) if field}
    except ValueError as error:
        raise ConfigError(f"{path}: {name}.command: {error}; write {{{{ for a brace") from None
    if named != PLACES[name]:
        wanted = ", ".join(f"{{{place}}}" for place in sorted(PLACES[name]))
        raise ConfigError(f"{path}: {name}.command: it must hold each of {wanted}, and nothing else in braces")
    return bridge


def call(name: str, bridge: Bridge, places: Mapping[str, str], *, log: Path) -> None:
    """Run the program to its end; all that it says goes to ``log``.

    Raises:
        ConfigError: if it cannot be started.
        EvaluationError: if it fails; the message holds its last line.
    """
    command = [part.format_map(places) for part in bridge.command]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    try:
        with log.open("wb") as file:
            done = subprocess.run(command, env=environment, stdout=file, stderr=subprocess.STDOUT, check=False)
    except OSError as error:
        raise ConfigError(f"--bridges: {name}.command: {command[0]}: {error.strerror}") from None
    if done.returncode:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")[:200]
        raise EvaluationError(f"{name}: its program ended with status {done.returncode}: {last}\nAll it said: {log}")
