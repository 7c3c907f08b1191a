"""The study's bank: pairs made before anybody votes, so that no side can be told by its time.

Each pair is a folder of an opaque name: ``pair.json`` and one packed picture for each way round, or one packed video.
It is written under a hidden name, brought to the disk and then renamed, so a folder that can be seen is whole. Seeds
are secret: with public weights, whoever knows prompt and seed can make an arm's picture again and recognise it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tdm_core.errors import ConfigError, RequestError, StorageError, StudyError
from tdm_core.generation.media import decode_mp4, decode_png, write_whole
from tdm_core.generation.packed import pack_pair, spoil
from tdm_core.generation.packed_video import pack_videos
from tdm_core.generation.presets import PROJECT
from tdm_core.generation.sample import MAX_SEED, Role, Sample, Sampler, SampleRequest, check_prompt
from tdm_core.toml_config import from_mapping

ARMS = (Role.STUDENT, Role.TEACHER)
ENDINGS = {"image": "png", "video": "mp4"}
MOST_CODING_LOSS = 6.0  # levels of 255, mean, between the two ways round of a video: coded alike, not to the pixel
STUDY_PROMPTS = PROJECT / "assets" / "prompts" / "study.txt"
TICK_NS = 2_000_000_000  # more than any file system's
SPOILED = "spoiled"  # the study's name for it, too


@dataclass(frozen=True, kw_only=True)
class BankPair:
    """``pair.json``: what was made, and the SHA-256 of each packed picture.

    Besides the two arms both ways round, one arm is packed with itself and with its spoiled copy: what a rater who
    looks must find equal, and plainly worse. They are made beforehand too, so that no clock tells them from the rest.
    """

    id: str
    preset: str
    prompt: str
    seed: int
    kind: str
    width: int  # of one side, in pixels
    height: int
    noise_sha256: str
    samplers: dict[str, dict[str, Any]]  # arm -> steps, nfe, guidance_scale, scheduler
    sha256_by_left_arm: dict[str, str]
    frames: int = 1
    fps: int = 1
    category: str = ""
    control_arm: str = ""  # empty in pairs that were made without controls
    sha256_of_controls: dict[str, str] = field(default_factory=dict)  # by the names of the left and the right side

    @property
    def length_ms(self) -> int:
        """Of one loop; 0 for pictures."""
        return round(1000 * self.frames / self.fps) if self.kind == "video" else 0


@dataclass(frozen=True, kw_only=True)
class BankProgress:
    pairs: int
    target: int


class Bank:
    """The finished pairs of one preset under ``root``; new ones appear as they are made."""

    def __init__(self, root: Path, *, preset: str) -> None:
        self._root, self._preset = root, preset
        self._read: dict[str, BankPair] = {}  # a pair never changes once it can be seen
        self._listed_at_ns = 0

    def pairs(self) -> list[BankPair]:
        """Raises `StorageError` if the folder cannot be read or a pair in it is damaged."""
        with _disk_errors(self._root):
            if self._has_changed():
                self._listed_at_ns = time.time_ns()
                names = sorted(path.name for path in self._root.glob("[!.]*") if path.is_dir())
                self._read = {name: self._read.get(name) or _read_pair(self._root / name) for name in names}
        return [pair for pair in self._read.values() if pair.preset == self._preset]

    def _has_changed(self) -> bool:
        """Since it was listed; a folder that changed just before may change again within one tick of its clock."""
        try:
            changed_at_ns = self._root.stat().st_mtime_ns
        except FileNotFoundError:
            return True
        return not changed_at_ns + TICK_NS < self._listed_at_ns <= time.time_ns()

    def packed(self, pair_id: str, left_arm: str, right_arm: str) -> bytes:
        """Both sides as one PNG or mp4: the two arms, or the pair's control arm with itself or its spoiled copy.

        Raises:
            StorageError: if the pair is gone or its file is not what was written.
        """
        is_real = {left_arm, right_arm} == set(ARMS)
        name = left_arm if is_real else f"{left_arm}_{right_arm}"
        with _disk_errors(self._root):
            pair = self._read.get(pair_id) or _read_pair(self._root / pair_id)
            content = _file(self._root / pair_id, name, pair.kind).read_bytes()
        digests = pair.sha256_by_left_arm if is_real else pair.sha256_of_controls
        if hashlib.sha256(content).hexdigest() != digests.get(name):
            raise StorageError(f"{self._root / pair_id}: damaged; delete this folder, another pair will be made")
        return content


def build_bank(
    root: Path,
    *,
    preset: str,
    prompts: Sequence[str],
    sample: Sampler,
    pairs: int = 40,
    categories: Mapping[str, str] | None = None,
    fps: int = 8,
) -> Iterator[BankProgress]:
    """Make pairs until the bank has ``pairs`` of them, yielding at every step of a sampler, so that it can be stopped.

    Prompts are used evenly; ``categories`` names each one's; ``fps`` is a video's. A later call goes on where this one
    stopped; two processes take turns, pair by pair.

    Raises:
        ConfigError: without prompts.
        StorageError: if the folder cannot be written.
        StudyError: if the two arms' samples cannot be compared blindly.
    """
    if not prompts:
        raise ConfigError("a bank needs prompts, and the list is empty")
    bank = Bank(root, preset=preset)
    with _disk_errors(root):
        root.mkdir(parents=True, exist_ok=True)
    yield (progress := BankProgress(pairs=len(bank.pairs()), target=pairs))
    while progress.pairs < pairs:
        with _only_builder(root):
            made = bank.pairs()  # another process may have made some meanwhile
            if len(made) < pairs:
                used = Counter(pair.prompt for pair in made)
                prompt = min(prompts, key=used.__getitem__)
                for _ in _make_pair(root, preset, prompt, (categories or {}).get(prompt, ""), sample, fps):
                    yield BankProgress(pairs=len(made), target=pairs)
        yield (progress := BankProgress(pairs=len(bank.pairs()), target=pairs))


def check_bank(root: Path) -> list[str]:
    """What is wrong with the bank's pairs, one line each; empty if all is well."""
    with _disk_errors(root):
        folders = sorted(path for path in root.glob("[!.]*") if path.is_dir())
    problems = (_problem(folder) for folder in folders)
    return [f"{folder}: {problem}" for folder, problem in zip(folders, problems, strict=True) if problem]


def read_prompts(path: Path) -> list[str]:
    """The prompts of a file, one per line; lines that start with ``#`` are not prompts.

    Raises:
        ConfigError: if the file cannot be read, holds no prompt, or one that cannot be used.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text: {error}") from None
    prompts = {number: line.strip() for number, line in enumerate(lines, 1) if line.strip() and line[0] != "#"}
    for number, prompt in prompts.items():
        try:
            check_prompt(prompt)
        except RequestError as error:
            raise ConfigError(f"{path}, line {number}: {error}") from None
    if not prompts:
        raise ConfigError(f"{path}: no prompts; write one per line")
    return list(prompts.values())


def _make_pair(root: Path, preset: str, prompt: str, category: str, sample: Sampler, fps: int) -> Iterator[None]:
    seed = secrets.randbelow(MAX_SEED + 1)
    samples: dict[str, Sample] = {}
    for arm in ARMS:
        for event in sample(SampleRequest(preset=preset, role=arm, prompt=prompt, seed=seed)):
            if isinstance(event, Sample):
                samples[arm.value] = event
            yield
    _refuse_unequal(samples)
    with _disk_errors(root):
        _write_pair(root, preset, prompt, category, seed, samples, fps)


def _refuse_unequal(samples: dict[str, Sample]) -> None:
    first, second = samples.values()
    if (
        first.kind != second.kind
        or first.media.shape != second.media.shape
        or first.noise_sha256 != second.noise_sha256
    ):
        raise StudyError("Both arms must have one size and start from one noise, or their look gives them away.")


def _write_pair(
    root: Path, preset: str, prompt: str, category: str, seed: int, samples: dict[str, Sample], fps: int
) -> None:
    name = secrets.token_hex(16)
    draft = root / f".{name}"
    draft.mkdir()
    control_arm = secrets.choice(ARMS).value
    sides = {arm: sample.media for arm, sample in samples.items()}
    sides[SPOILED] = spoil(sides[control_arm])
    kind = samples[ARMS[0]].kind
    student, teacher = (arm.value for arm in ARMS)
    names = {(student, teacher): student, (teacher, student): teacher} | {
        (left, right): f"{left}_{right}"
        for left, right in ((control_arm, SPOILED), (SPOILED, control_arm), (control_arm, control_arm))
    }
    bodies = _pack(sides, list(names), kind, fps)
    digests = {names[way]: _write_packed(_file(draft, names[way], kind), body) for way, body in bodies.items()}
    height, width, _ = sides[control_arm].shape[-3:]
    pair = BankPair(
        id=name,
        preset=preset,
        prompt=prompt,
        seed=seed,
        kind=kind,
        width=width,
        height=height,
        frames=len(sides[control_arm]) if kind == "video" else 1,
        fps=fps if kind == "video" else 1,
        noise_sha256=samples[ARMS[0]].noise_sha256,
        samplers={arm: _sampler(sample) for arm, sample in samples.items()},
        sha256_by_left_arm={name: digests.pop(name) for name in (student, teacher)},
        category=category,
        control_arm=control_arm,
        sha256_of_controls=digests,
    )
    write_whole(draft / "pair.json", json.dumps(asdict(pair), indent=1).encode())
    _to_disk(draft)
    draft.rename(root / name)
    _to_disk(root)


def _pack(
    sides: Mapping[str, NDArray[np.uint8]], ways: list[tuple[str, str]], kind: str, fps: int
) -> dict[tuple[str, str], bytes]:
    if kind == "image":
        return {(left, right): pack_pair(sides[left], sides[right]) for left, right in ways}
    try:
        return pack_videos(sides, ways, fps=fps)
    except ValueError as error:
        raise StudyError(f"These videos cannot be shown blindly: {error}.") from None


def _write_packed(path: Path, content: bytes) -> str:
    write_whole(path, content)
    return hashlib.sha256(content).hexdigest()


def _sampler(sample: Sample) -> dict[str, Any]:
    return {name: getattr(sample, name) for name in ("steps", "nfe", "guidance_scale", "scheduler")}


def _read_pair(folder: Path) -> BankPair:
    try:
        values = json.loads((folder / "pair.json").read_text(encoding="utf-8"))
        pair = from_mapping(BankPair, values, where=str(folder))
    except (FileNotFoundError, ValueError, ConfigError) as error:
        raise StorageError(f"{folder}: no whole pair ({error}); delete this folder, another will be made") from error
    if pair.id != folder.name or set(pair.sha256_by_left_arm) != set(ARMS):
        raise StorageError(f"{folder}: not this pair's folder; delete it, another pair will be made")
    return pair


def _problem(folder: Path) -> str | None:
    try:
        pair = _read_pair(folder)
        bank = Bank(folder.parent, preset=pair.preset)
        one_way, other_way = (bank.packed(pair.id, *sides) for sides in (ARMS, ARMS[::-1]))
        for name in pair.sha256_of_controls:
            bank.packed(pair.id, *name.split("_"))
    except StorageError as error:
        return str(error)
    decode, frames = (decode_mp4, (pair.frames,)) if pair.kind == "video" else (decode_png, ())
    first, second = (decode(content) for content in (one_way, other_way))
    if {first.shape, second.shape} != {(*frames, pair.height, 2 * pair.width, 3)}:
        return "the pictures are not of the size that pair.json says"
    loss = np.abs(np.roll(first, pair.width, axis=-2).astype(int) - second).mean()
    if len(one_way) != len(other_way) or loss > (MOST_CODING_LOSS if pair.kind == "video" else 0):
        return "the two ways round are not the same two pictures"
    return None


def _file(folder: Path, name: str, kind: str) -> Path:
    """``name``: the arm that lies left opposite the other, or both sides of a control."""
    return folder / f"{name}{'_left' if name in tuple(ARMS) else ''}.{ENDINGS[kind]}"


@contextmanager
def _only_builder(root: Path) -> Iterator[None]:
    """Wait for other builders of this bank, then clear what a killed one left half-done."""
    with _disk_errors(root):
        lock = (root / ".lock").open("w")
    with lock:
        with _disk_errors(root):
            fcntl.flock(lock, fcntl.LOCK_EX)
            for draft in root.glob(".*/"):
                shutil.rmtree(draft)
        yield


@contextmanager
def _disk_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"{error.filename or root}: {error.strerror}; free space or name another folder") from error


def _to_disk(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
