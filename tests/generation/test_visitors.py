import threading
from dataclasses import replace

import pytest

from tdm_core.errors import BusyError
from tdm_core.generation.sample import Progress, Role, Sample, SampleRequest, finish
from tdm_core.generation.visitors import Visitors
from tests.ui.fakes import FakeSampler

STUDENT = SampleRequest(preset="p", role=Role.STUDENT, prompt="a cat", seed=1)
TEACHER = SampleRequest(preset="p", role=Role.TEACHER, prompt="a cat", seed=1)


def test_the_background_gets_its_sample_when_nobody_is_there():
    visitors = Visitors(FakeSampler(seconds_per_step=0), quiet_seconds=0)
    assert isinstance(finish(visitors.sample_politely(TEACHER)), Sample)


def test_a_visit_breaks_off_the_background_run_which_begins_anew_afterwards():
    sampler = FakeSampler(seconds_per_step=0)
    visitors = Visitors(sampler, quiet_seconds=0)
    background = visitors.sample_politely(TEACHER)
    assert isinstance(next(background), Progress)
    visit = visitors.sample(STUDENT)
    next(visit)
    worker = threading.Thread(target=lambda: results.append(finish(background)))
    results: list[Sample] = []
    worker.start()
    worker.join(timeout=0.2)
    assert results == []
    assert sampler.closed == 1
    finish(visit)
    worker.join(timeout=10)
    assert len(results) == 1
    assert [request.role for request in sampler.requests] == [Role.TEACHER, Role.STUDENT, Role.TEACHER]


def test_a_visitor_who_leaves_midway_is_gone():
    visitors = Visitors(FakeSampler(seconds_per_step=0), quiet_seconds=0)
    visit = visitors.sample(TEACHER)
    next(visit)
    visit.close()
    assert isinstance(finish(visitors.sample_politely(TEACHER)), Sample)


def test_who_would_wait_behind_too_many_is_told_for_about_how_long():
    visitors = Visitors(FakeSampler(seconds_per_step=0), teachers=2)
    inside = [visitors.sample(TEACHER) for _ in range(2)]
    for visit in inside:
        next(visit)
    with pytest.raises(BusyError, match=r"^Busy: 2 others wait for the same. Try again in a few minutes.$"):
        next(visitors.sample(TEACHER))
    finish(visitors.sample(STUDENT))  # a crowd before the teacher keeps nobody from the student
    seconds = finish(inside[0]).seconds
    assert finish(visitors.sample(TEACHER)).seconds == seconds
    third = visitors.sample(TEACHER)
    next(third)
    with pytest.raises(BusyError, match=rf"^Busy: 2 others .* Try again in about {max(1, round(2 * seconds))} s.$"):
        next(visitors.sample(replace(TEACHER, role=Role.TEACHER_FEW)))


def test_a_place_is_given_back_however_a_visit_ends():
    visitors = Visitors(FakeSampler(seconds_per_step=0, fail={Role.STUDENT: ValueError("a bug")}), teachers=1)
    for _ in range(3):
        visit = visitors.sample(TEACHER)
        next(visit)
        visit.close()
    for _ in range(40):
        with pytest.raises(ValueError, match="a bug"):
            finish(visitors.sample(STUDENT))
