"""A finished run as the metrics see it: arms, prompts, pictures.  No engine is imported here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from tdm_core.errors import EvaluationError
from tdm_core.evaluation.manifest import Header, Picture, is_whole, picture_key, read_header, read_pictures
from tdm_core.evaluation.suites import Item, suite_of_run
from tdm_core.generation.media import decode_mp4, decode_png
from tdm_core.generation.sample import MediaKind


@dataclass(frozen=True)
class Run:
    """A run's folder as the metrics see it."""

    folder: Path
    header: Header
    items: tuple[Item, ...]

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Read a run.

        Raises:
            EvaluationError: if there is none, or its suite has changed since.
        """
        header = read_header(folder)
        suite = suite_of_run(folder, header.suite)
        if suite.sha256 != header.suite_sha256:
            raise EvaluationError(
                f"{folder}: made for another edition of suite {suite.name} ({header.suite_sha256[:8]}, now"
                f" {suite.sha256[:8]}).\nGenerate it again into another folder."
            )
        return cls(folder, header, suite.limited(header.limit))

    @property
    def arms(self) -> tuple[str, ...]:
        return tuple(self.header.arms)

    @cached_property
    def _finished(self) -> dict[str, Picture]:
        return read_pictures(self.folder)

    @property
    def media(self) -> MediaKind:
        """What its files hold."""
        return "video" if any(picture.file.endswith(".mp4") for picture in self._finished.values()) else "image"

    def pictures(self, arm: str) -> list[tuple[Item, Picture]]:
        """The arm's pictures in the suite's order, all those of a prompt together.

        Raises:
            EvaluationError: if some are missing.
        """
        fingerprint = self.header.arms[arm].fingerprint
        asked = [(item, number) for item in self.items for number in range(self.header.seeds)]
        keys = [picture_key(self.header.suite_sha256, item, number, fingerprint) for item, number in asked]
        missing = sum(key not in self._finished for key in keys)
        if missing:
            raise EvaluationError(
                f"{self.folder}: {missing} of {len(keys)} pictures of {arm} are missing.\n"
                "Call evaluate generate once more with the same options: it makes what is not there."
            )
        return [(item, self._finished[key]) for (item, _), key in zip(asked, keys, strict=True)]

    def pixels(self, picture: Picture) -> np.ndarray:
        """uint8 [H, W, 3]; of a clip [F, H, W, 3].

        Raises:
            EvaluationError: if the file is not the one that the manifest names.
        """
        self.check(picture)
        content = (self.folder / picture.file).read_bytes()
        return decode_mp4(content) if picture.file.endswith(".mp4") else decode_png(content)

    def check(self, picture: Picture) -> None:
        """Raises `EvaluationError` if the file is not the one that the manifest names."""
        if not is_whole(self.folder, picture):
            raise EvaluationError(
                f"{self.folder / picture.file}: missing or changed since it was made.\n"
                "Call evaluate generate once more with the same options: it makes it again."
            )


def check_same_noise(run: Run, arms: Iterable[str]) -> None:
    """All arms must have started every picture from the same noise, or differences are not paired.

    Raises:
        EvaluationError: otherwise.
    """
    noises: dict[tuple[str, int], tuple[str, str]] = {}
    for arm in arms:
        for item, picture in run.pictures(arm):
            first, noise = noises.setdefault((item.id, picture.number), (arm, picture.noise_sha256))
            if noise != picture.noise_sha256:
                raise EvaluationError(
                    f"{run.folder}: {first} and {arm} started {item.prompt!r} from different noise.\n"
                    "Generate both into one fresh folder."
                )
