"""Environment variables: this file is their one home; the README's table is compared with it by a test.

Each field of `Settings` is read from ``TDM_`` plus its name in capitals; an empty value means unset.
A ``TDM_`` variable that nothing reads is refused, since a misspelt folder would silently lose votes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from tdm_core.errors import ConfigError

PREFIX = "TDM_"
Live = Literal["auto", "on", "off"]
Compile = Literal["on", "off"]
Logs = Literal["text", "json"]
Offload = Literal["none", "model", "sequential"]
ON_A_SPACE = Path.home() / "tdm-data"
"""Where a Hugging Face Space keeps its data unless told otherwise: never among the code, which may be read-only, nor on
a mounted bucket, whose locks do not hold."""
ZERO_GPU = "SPACES_ZERO_GPU"
"""Set by a Space on ZeroGPU."""
READ_ELSEWHERE = {"TDM_REQUIRE_ALL"}  # read by the tests alone


def rents_its_gpu(environ: Mapping[str, str] = os.environ) -> bool:
    """On ZeroGPU a device is there only while a decorated function runs."""
    return bool(environ.get(ZERO_GPU))


def _folder(text: str) -> Path:
    path = Path(text).expanduser()
    if path.exists() and not path.is_dir():
        raise ValueError(f"{text!r} is a file; name a folder")
    return path


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", text):
        raise ValueError(f"{text!r} is not auto, cpu, mps, cuda or cuda:N")
    return text


def _threads(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,3}", text):
        raise ValueError(f"{text!r} is not a number of threads from 1 to 9999")
    return int(text)


def _replicas(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,2}", text):
        raise ValueError(f"{text!r} is not a number of replicas from 1 to 999")
    return int(text)


def _proxies(text: str) -> int:
    if not re.fullmatch(r"\d", text):
        raise ValueError(f"{text!r} is not a number of proxies from 0 to 9")
    return int(text)


def _one_of(choices: Any) -> Callable[[str], str]:
    """A parser for one of a ``Literal``'s words."""
    *others, last = get_args(choices)

    def parse(text: str) -> str:
        if text not in (*others, last):
            raise ValueError(f"{text!r} is not {', '.join(others)} or {last}")
        return text

    return parse


def _database_url(text: str) -> str:
    if not text.startswith(("postgresql://", "postgresql+psycopg://")):
        raise ValueError("write postgresql://user:password@host/database")  # not repeated: it may hold a password
    return text


def _study(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,40}", text):
        raise ValueError(f"{text!r} is no study's name: lower-case letters, digits and hyphens, at most 41")
    return text


def _repository(text: str) -> str:
    if not re.fullmatch(r"[\w.-]{1,96}/[\w.-]{1,96}", text):
        raise ValueError(f"{text!r} is not OWNER/NAME")
    return text


def _token(text: str) -> str:
    if len(text) < 16 or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("choose 16 or more letters, digits and signs, without spaces")  # not repeated: it is a secret
    return text


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a user may change without touching code."""

    data_dir: Path = field(default=Path("data"), metadata={"parse": _folder})
    """Holds the database, the study's media and logs; nothing is written anywhere else."""

    database_url: str | None = field(default=None, repr=False, metadata={"parse": _database_url})
    """Where votes go instead of a file in the data folder: postgresql://user:password@host/database."""

    study: str = field(default="demo", metadata={"parse": _study})
    """The study that the page holds: demo, or the name of one that `study create` made."""

    hub_dataset: str | None = field(default=None, metadata={"parse": _repository})
    """A private dataset of the Hugging Face Hub (OWNER/NAME) that keeps the votes where the disk does not last."""

    secret: str | None = field(default=None, repr=False, metadata={"parse": _token})
    """Signs the raters' cookies instead of the file in the data folder: processes that share it know one another's
    raters, and a machine whose disk does not last knows them after a restart."""

    admin_token: str | None = field(default=None, repr=False, metadata={"parse": _token})
    """Opens the operator's page at /gradio_api/study/admin; unset: there is none."""

    proxies: int = field(default=0, metadata={"parse": _proxies})
    """How many proxies in front of the server write ``X-Forwarded-For``: whose addresses a study's limits count."""

    presets: Path | None = field(default=None, metadata={"parse": _folder})
    """A folder of further preset files, read after ``assets/presets``."""

    device: str = field(default="auto", metadata={"parse": _device})
    """Where models run: auto (the best there is), cpu, mps, cuda or cuda:N."""

    threads: int | None = field(default=None, metadata={"parse": _threads})
    """CPU threads of one network evaluation; unset: all cores."""

    offload: Offload | None = field(default=None, metadata={"parse": _one_of(Offload)})
    """Keep components (model) or single layers (sequential) in main memory until used; unset: as each preset says."""

    compile: Compile = field(default="off", metadata={"parse": _one_of(Compile)})
    """Whether denoisers are compiled for the device: the first run of each shape takes a while, later ones less; on
    ZeroGPU once, before the page starts."""

    replicas: int | None = field(default=None, metadata={"parse": _replicas})
    """Engines under Ray Serve, each on a device of its own; unset: one engine in this process."""

    logs: Logs = field(default="text", metadata={"parse": _one_of(Logs)})
    """How the app logs to stderr: text, or json, an object a line."""

    live: Live = field(default="auto", metadata={"parse": _one_of(Live)})
    """Whether the page offers live distillation, which keeps a core busy for minutes; auto: not on a Space."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the process's environment.

        Raises:
            ConfigError: if a ``TDM_`` variable is unknown or has a wrong value; the message names it.
        """
        known = {PREFIX + each.name.upper(): each for each in fields(cls)}
        for name in environ:
            if name.startswith(PREFIX) and name not in known and name not in READ_ELSEWHERE:
                raise ConfigError(f"environment: unknown variable {name}; known here: {', '.join(known)}")
        values: dict[str, Any] = {"data_dir": ON_A_SPACE} if environ.get("SPACE_ID") else {}
        for name, each in known.items():
            if text := environ.get(name):
                try:
                    values[each.name] = each.metadata["parse"](text)
                except ValueError as error:
                    raise ConfigError(f"environment: {name}: {error}") from None
        return cls(**values)
