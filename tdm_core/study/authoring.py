"""A study's TOML file: its rules, with prompts written out or named as files beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from tdm_core.errors import ConfigError
from tdm_core.study.rules import StudyRules
from tdm_core.toml_config import from_mapping, read_toml


def read_rules(path: Path, read_prompts: Callable[[Path], Sequence[str]]) -> StudyRules:
    """The rules in a TOML file; under ``[prompts]`` a category is a list of prompts, or a file of them.

    Raises:
        ConfigError: if the file or a file of prompts cannot be used; the message names the key.
    """
    values = read_toml(path)
    prompts = values.get("prompts", {})
    if not isinstance(prompts, dict) or not prompts:
        raise ConfigError(f"{path}: prompts: write [prompts] and, for each category, a list or the name of a file")
    for category, listed in prompts.items():
        if isinstance(listed, str):
            prompts[category] = list(read_prompts(path.parent / listed))
    rules = from_mapping(StudyRules, values, where=str(path))
    every = [prompt for listed in rules.prompts.values() for prompt in listed]
    if not all(rules.prompts.values()) or len(set(every)) != len(every):
        raise ConfigError(f"{path}: prompts: each category needs one, and none may stand there twice")
    return rules


def study_id(text: str) -> str:
    """The text, if it can name a study and its folder.

    Raises:
        ConfigError: if it cannot.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,40}", text):
        raise ConfigError(f"study {text!r}: a name is lower-case letters, digits and hyphens, at most 41 of them")
    return text
