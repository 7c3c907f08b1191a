"""From settings to what they describe: the composition that ``app.py`` and the commands share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

from tdm_core.errors import ConfigError, PresetError
from tdm_core.generation.bank import STUDY_PROMPTS, Bank, BankProgress, build_bank, read_prompts
from tdm_core.generation.batching import Batcher
from tdm_core.generation.engine import Engine
from tdm_core.generation.presets import PROJECT, SHIPPED, Preset, load_presets, read_folder
from tdm_core.generation.sample import Progress, Sample, Sampler, SampleRequest
from tdm_core.settings import Settings, rents_its_gpu
from tdm_core.study import StudyService
from tdm_core.study.quiz import Quiz, read_quiz
from tdm_core.toml_config import from_mapping

if TYPE_CHECKING:
    from tdm_core.storage import SqlStore
    from tdm_core.storage.hub import HubSegments
    from tdm_core.ui.report import Report

DEMO = "demo"  # the study that needs no `study create`
DEMO_PRESET = "mini-sd3"
QUIZZES = PROJECT / "assets" / "quizzes"
REPORTS = SHIPPED.parent / "reports"


class Served(Protocol):
    """What a page needs of the engine."""

    def sample(self, request: SampleRequest) -> Iterator[Progress | Sample]: ...

    def warm_up(self, preset: str) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Wiring:
    """Made on demand, once: reading presets is cheap, and the engine loads weights only when it is asked to sample."""

    settings: Settings

    @cached_property
    def presets(self) -> dict[str, Preset]:
        """Those that can be read.

        Raises:
            PresetError: if a shipped one cannot, or the user's folder is not there.
        """
        return load_presets([SHIPPED]) | self._own_presets[0]

    @property
    def unreadable(self) -> dict[str, str]:
        """Names of the user's files that are no presets -> why: one typo must not take the other systems away."""
        return self._own_presets[1]

    @cached_property
    def _own_presets(self) -> tuple[dict[str, Preset], dict[str, str]]:
        return read_folder(self.settings.presets) if self.settings.presets else ({}, {})

    def preset(self, name: str) -> Preset:
        """Raises `PresetError` if it cannot be read, be there a shipped one of its name or not, or there is none."""
        if name in self.unreadable:
            raise PresetError(self.unreadable[name])
        if name not in self.presets:
            raise PresetError(f"no preset {name!r}; there are: {', '.join(self.presets)}")
        return self.presets[name]

    @cached_property
    def engine(self) -> Engine:
        return Engine(self.presets, **self._engine_options)

    @property
    def _engine_options(self) -> dict[str, Any]:
        told = self.settings
        return {
            "device": told.device,
            "threads": told.threads,
            "offload": told.offload,
            "compiled": told.compile == "on" and not rents_its_gpu(),  # there it is done ahead
        }

    @cached_property
    def served(self) -> Served:
        """The engine as a page uses it: requests that wait together are batched, here or on replicas."""
        if self.settings.replicas is None:
            return Batcher(self.engine)
        from tdm_core.serving.ray import RayEngine

        return RayEngine(self.presets, replicas=self.settings.replicas, **self._engine_options)

    @cached_property
    def store(self) -> SqlStore:
        """Raises `StorageError` if the database cannot be used."""
        from tdm_core.storage import open_store

        return open_store(self.settings.data_dir, self.settings.database_url)

    def hub(self, study_id: str) -> HubSegments | None:
        """The dataset that keeps this study's votes, if the settings name one."""
        if self.settings.hub_dataset is None:
            return None
        from tdm_core.storage.hub import HubSegments

        return HubSegments(self.settings.hub_dataset, study_id)

    def recover(self, study_id: str) -> int:
        """Make the study again from the Hub if this machine has lost it; the number of its votes, 0 if it has not.

        Raises:
            StorageError: if the Hub cannot be reached, or what it holds is broken.
        """
        hub = self.hub(study_id)
        if hub is None or study_id in self.store.study_ids():
            return 0
        from tdm_core.storage import replay

        with TemporaryDirectory() as folder:
            return replay(self.store, Path(folder)) if hub.fetch(Path(folder)) else 0

    def close(self) -> None:
        """Let go of the replicas and the database, if they were used."""
        if "served" in vars(self):
            self.served.close()
        if "store" in vars(self):
            self.store.close()

    def study(self, study_id: str) -> StudyService:
        """The study over its own bank; the demo is made if it is not there.

        Raises:
            ConfigError: if the database has no such study.
        """
        with self.store.reading(study_id) as records:
            study = records.study()
        if study is None and study_id != DEMO:
            raise ConfigError(
                f"no study {study_id!r} in the database; make it with: study create FILE --name {study_id}"
            )
        preset = self.study_preset(study.rules.preset if study and study.rules else None)
        pairs = Bank(self.bank_folder(study_id), preset=preset.name)
        return StudyService(store=self.store, pairs=pairs, study_id=study_id)

    def study_preset(self, name: str | None) -> Preset:
        """Raises `ConfigError` if there is none of that name; without a name, the demo's or else the first."""
        if name is None or name == DEMO_PRESET:
            return self.presets.get(DEMO_PRESET) or next(iter(self.presets.values()))
        return self.preset(name)

    def reports(self) -> list[Report]:
        """The published evaluations, the demo's model first; see `tdm_core.evaluation.publish`."""
        from tdm_core.ui.report import Report

        found = []
        for path in sorted(REPORTS.glob("*/report.json"), key=lambda path: (path.parent.name != DEMO_PRESET, path)):
            report = from_mapping(Report, json.loads(path.read_text(encoding="utf-8")), where=str(path))
            found.append(replace(report, folder=path.parent))
        return found

    def bank_folder(self, study_id: str) -> Path:
        return self.settings.data_dir / "bank" if study_id == DEMO else self.study_folder(study_id) / "bank"

    def study_folder(self, study_id: str) -> Path:
        """Holds the study's segments, and its bank unless it is the demo."""
        return self.settings.data_dir / "studies" / study_id

    def quiz(self, preset: Preset) -> Quiz | None:
        """The quiz on this preset over a bank of its own, if there is one."""
        rules = read_quiz(QUIZZES, preset.name)
        return Quiz(rules, Bank(self._quiz_folder(rules.prompts), preset=preset.name)) if rules else None

    def build_quiz(self, quiz: Quiz, sample: Sampler) -> Iterator[BankProgress]:
        rules = quiz.rules
        folder = self._quiz_folder(rules.prompts)
        return build_bank(folder, preset=rules.preset, prompts=rules.prompts, sample=sample, pairs=len(rules.prompts))

    def _quiz_folder(self, prompts: tuple[str, ...]) -> Path:
        """One for each list of prompts: pairs of an older list would never make this one whole."""
        return self.settings.data_dir / "quiz" / sha256("\n".join(prompts).encode()).hexdigest()[:12]

    def build_bank(self, study_id: str, service: StudyService, sample: Sampler) -> Iterator[BankProgress]:
        """Make the pairs that the study still lacks; see `tdm_core.generation.bank.build_bank`."""
        rules, preset = service.rules, self.study_preset(service.rules.preset)
        categories = {prompt: category for category, prompts in rules.prompts.items() for prompt in prompts}
        return build_bank(
            self.bank_folder(study_id),
            preset=preset.name,
            fps=preset.fps,
            prompts=list(categories) or read_prompts(STUDY_PROMPTS),
            categories=categories,
            sample=sample,
            pairs=rules.target,
        )
