"""A page of fakes, served by a process of its own: ``python -m tests.ui.server PORT``.

Its own process, because Gradio's and pandas' warnings are none of ours, and would fail tests that have done nothing.
What a visitor asks for decides how the fake sampler behaves; a route of its own resets the study and tells what ran.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tdm_core.errors import LoadError
from tdm_core.generation.presets import Example, Preset, load_presets
from tdm_core.generation.sample import Role, SampleRequest
from tdm_core.generation.visitors import Visitors
from tdm_core.scenes import grammar
from tdm_core.study import MemoryStore, StudyRules, StudyService, Trial
from tdm_core.study.quiz import Quiz, QuizRules
from tdm_core.study.rules import DEMO
from tdm_core.toml_config import from_mapping
from tdm_core.ui.admin import Door, admin_routes
from tdm_core.ui.inputs import PageInputs, System
from tdm_core.ui.noscript import TellWithoutScript
from tdm_core.ui.page import build, launch_options
from tdm_core.ui.quiz_routes import quiz_routes
from tdm_core.ui.routes import routes
from tests.ui.fakes import FakeBank, FakeLearn, FakeSampler, fake_trajectory

CONTROL = "/gradio_api/test"
MINI = load_presets()["mini-sd3"]
CLIP_SUGGESTIONS = ["a fox moving up"]
SUGGESTIONS = ["two pandas", "a cat and a dog", "three foxes on a mint canvas"]
ADMIN_TOKEN = "a-token-of-the-tests"
RULES = json.loads(replace(DEMO, needed=2, target=3, min_view_ms=300).to_json())
PACES = {"slow": 0.4, "steady": 0.05}  # a word of the prompt -> seconds per step


class Fakes:
    """Stands in for the engine and for a study that can be begun anew."""

    def __init__(self) -> None:
        self.seeds: list[int] = []
        self.closed = 0
        self.quiz_bank = FakeBank()
        self.begin_study({})

    def begin_study(self, wanted: dict[str, Any]) -> None:
        rules = from_mapping(StudyRules, RULES | wanted.get("rules", {}), where="the test's rules")
        self.bank = FakeBank(made=wanted.get("pairs", 3), kind=wanted.get("kind", "image"))
        self._store = MemoryStore()
        self._service = StudyService(store=self._store, pairs=self.bank, rules=rules)
        self.codes = self._service.invite(wanted.get("invite", 0))

    def criteria(self) -> list[dict[str, str]]:
        with self._store.reading("demo") as records:
            return [dict(vote.criteria) for vote in records.votes()]

    def trials(self) -> list[Trial]:
        return list(self._store._records("demo")._trials.values())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service, name)

    def sample(self, request: SampleRequest) -> Any:
        words = request.prompt.split()
        pace = next((PACES[word] for word in words if word in PACES), 0.002)
        fail = {Role.TEACHER: LoadError("the teacher is broken")} if "broken" in words else {}
        sampler = FakeSampler(seconds_per_step=pace, fail=fail)
        self.seeds.append(request.seed)
        try:
            yield from sampler(request)
        finally:
            self.closed += sampler.closed


def clips(preset: Preset) -> Preset:
    """A system of clips, made of another's preset."""
    examples = (Example(prompt="a cat moving left", seed=3),)
    return replace(
        preset, name="clips", title="Clips", media="video", frames=9, fps=8, width=64, height=64, examples=examples
    )


def main(port: int) -> None:
    fakes = Fakes()
    learn = FakeLearn(Path(tempfile.mkdtemp(dir=os.environ["GRADIO_TEMP_DIR"])), MINI)

    async def control(request: Request) -> Response:
        wanted = await request.json()
        if "pairs" in wanted and wanted.get("grow"):
            fakes.bank.made = wanted["pairs"]
        elif "quiz_pairs" in wanted:
            fakes.quiz_bank.made = wanted["quiz_pairs"]
        elif wanted:
            fakes.begin_study(wanted)
        told = {"seeds": fakes.seeds, "closed": fakes.closed, "codes": fakes.codes, "criteria": fakes.criteria()}
        told |= {"trials": [asdict(trial) for trial in fakes.trials()], "lessons_closed": learn.closed}
        return JSONResponse(told | {"status": asdict(fakes.status())})

    async def close(request: Request) -> Response:
        return JSONResponse(asdict(fakes.close()))

    page = build(
        PageInputs(
            preset=MINI,
            sample=Visitors(fakes.sample).sample,
            suggest=lambda: SUGGESTIONS,
            unknown_words=grammar.unknown_words,
            trained_steps=frozenset({4}),
            results=lambda: fakes.results(),
            gallery=lambda report: fakes.gallery(report),
            learn=learn,
            students=lambda: dict(reversed(learn.made.items())),
            vocabulary={"things": ["cat", "dog"]},
            others=[
                System(preset=clips(MINI), suggest=lambda: CLIP_SUGGESTIONS),
                System(preset=replace(MINI, name="rival", title="A rival’s student"), suggest=lambda: ["a cat"]),
                System(preset=replace(MINI, name="absent", title="Somewhere else"), suggest=lambda: ["a cat"]),
            ],
            why_not=lambda name: ["needs 80 GB on the GPU; 0 are free: buy one"] if name == "absent" else [],
            trajectory=fake_trajectory,
            machine="a fake of a machine",
            has_quiz=True,
        )
    )
    ours = [Route(CONTROL, control, methods=["POST"]), Route(f"{CONTROL}/close", close, methods=["POST"])]
    prompts = tuple(f"prompt {index}" for index in (2, 0, 1))
    ours += quiz_routes(Quiz(QuizRules(preset="mini-sd3", prompts=prompts), fakes.quiz_bank))
    study: Any = fakes
    ours += admin_routes(study, Door(ADMIN_TOKEN))
    options = {"routes": [*ours, *routes(study, b"s" * 32)], "middleware": [Middleware(TellWithoutScript)]}
    page.launch(server_port=port, app_kwargs=options, **launch_options())


if __name__ == "__main__":
    main(int(sys.argv[1]))
