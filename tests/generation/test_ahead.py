"""Code made ahead of time: the same pictures, by the code where it fits and as ever where it does not."""

import pickle
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
import torch

from tdm_core.generation.engine import Engine
from tdm_core.generation.sample import Role, SampleRequest, finish


class Code:
    """An exported program that can be pickled; ``calls`` counts what runs by it."""

    calls = 0

    def __init__(self, program: bytes) -> None:
        self._program, self._module = program, None

    def __call__(self, *args, **kwargs):
        Code.calls += 1
        self._module = self._module or torch.export.load(BytesIO(self._program)).module()
        return self._module(*args, **kwargs)

    def __reduce__(self):
        return Code, (self._program,)


class Spaces:
    """The package ``spaces``, without its compiler."""

    @staticmethod
    @contextmanager
    def aoti_capture(module):
        class Captured(Exception):
            pass

        call = SimpleNamespace(args=(), kwargs={})

        def capture(*args, **kwargs):
            call.args, call.kwargs = args, kwargs
            raise Captured

        with patch.object(module, "forward", new=capture):
            try:
                yield call
            except Captured:
                pass

    @staticmethod
    def aoti_compile(exported):
        program = BytesIO()
        torch.export.save(exported, program)
        return Code(program.getvalue())


@pytest.fixture(params=[True, False], ids=["folded", "beside"])
def engine(request, tiny_system):
    from tdm_core.generation.presets import load_presets

    preset = load_presets([tiny_system / "presets"])["tiny"]
    preset = replace(preset, student=replace(preset.student, merge=request.param))
    return Engine({"tiny": preset}, device="cpu", threads=1)


def asked(role, **values):
    return SampleRequest(preset="tiny", role=role, prompt="a cat", seed=5, **values)


def test_by_code_made_ahead_both_sides_draw_what_they_drew(engine):
    requests = [asked(Role.TEACHER), asked(Role.STUDENT), asked(Role.TEACHER_FEW), asked(Role.STUDENT, strength=0.5)]
    before = [finish(engine.sample(request)) for request in requests]
    engine.use_ahead("tiny", pickle.loads(pickle.dumps(engine.compile_ahead("tiny", Spaces))))
    for request, old in zip((*requests, *requests), (*before, *before), strict=True):
        Code.calls = 0
        new = finish(engine.sample(request))
        assert np.abs(new.media.astype(int) - old.media).max() <= 1
        assert new.nfe == old.nfe
        assert Code.calls == (0 if request.strength else new.steps), request


def test_other_shapes_run_as_ever(engine):
    pair = [asked(Role.STUDENT), asked(Role.STUDENT)]
    before = engine.sample_batch(pair)
    engine.use_ahead("tiny", engine.compile_ahead("tiny", Spaces))
    Code.calls = 0
    assert np.array_equal(engine.sample_batch(pair)[0].media, before[0].media)
    assert Code.calls == 0
