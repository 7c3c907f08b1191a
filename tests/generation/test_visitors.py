import threading

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
