"""The engine against the bare pipeline of diffusers, its counts, its clocks and its turns."""

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Pipeline

from tdm_core.backbones import base
from tdm_core.errors import PresetError
from tdm_core.generation.engine import Engine
from tdm_core.generation.plan import make_plan
from tdm_core.generation.presets import load_presets
from tdm_core.generation.sample import Grid, Progress, Role, Sample, SampleRequest, finish
from tests.tiny import PRESET, SIGMAS, SIZE_PX

UNIFORM_4 = [1.0, 0.75, 0.5, 0.25]


def ask(role=Role.TEACHER, preset=PRESET, prompt="a cat", seed=7, **values):
    return SampleRequest(preset=preset, role=role, prompt=prompt, seed=seed, **values)


def noise_of(seed):
    return torch.randn((1, 16, 8, 8), generator=torch.Generator("cpu").manual_seed(seed))


@pytest.fixture(scope="module")
def bare(tiny_system):
    """What a user of plain diffusers does, with the LoRA loaded if asked."""

    def run(*, lora, sigmas, guidance_scale, prompt="a cat", seed=7):
        pipeline = StableDiffusion3Pipeline.from_pretrained(
            tiny_system / "base", text_encoder_3=None, tokenizer_3=None, dtype=torch.float32
        )
        pipeline.set_progress_bar_config(disable=True)
        if lora:
            pipeline.load_lora_weights(tiny_system / "lora")
        image = pipeline(
            prompt,
            num_inference_steps=len(sigmas),
            sigmas=sigmas,
            guidance_scale=guidance_scale,
            latents=noise_of(seed),
            max_sequence_length=0,
            output_type="pil",
        ).images[0]
        return np.asarray(image)

    return run


@pytest.mark.parametrize(
    ("role", "lora", "sigmas", "guidance_scale"),
    [
        pytest.param(Role.TEACHER, False, [1 - i / 10 for i in range(10)], 3.0, id="teacher"),
        pytest.param(Role.TEACHER_FEW, False, UNIFORM_4, 3.0, id="teacher_few"),
        pytest.param(Role.STUDENT, True, SIGMAS["4"], 1.0, id="student"),
    ],
)
@pytest.mark.parametrize("preset", [PRESET, "unmerged"])
def test_engine_makes_the_picture_of_the_bare_pipeline(tiny_engine, bare, preset, role, lora, sigmas, guidance_scale):
    expected = bare(lora=lora, sigmas=sigmas, guidance_scale=guidance_scale)
    sample = finish(tiny_engine.sample(ask(role, preset)))
    assert sample.sigmas == tuple(sigmas)
    assert np.abs(sample.media.astype(int) - expected).max() <= 1


def test_student_differs_from_the_teacher_at_its_own_nodes(tiny_engine):
    student = finish(tiny_engine.sample(ask(Role.STUDENT)))
    same_nodes = ask(Role.TEACHER_FEW, grid=Grid.STUDENT, guidance_scale=1.0)
    teacher = finish(tiny_engine.sample(same_nodes))
    assert teacher.sigmas == student.sigmas == tuple(SIGMAS["4"])
    assert not np.array_equal(teacher.media, student.media)


def test_all_roles_start_from_the_noise_of_the_seed_alone(tiny_engine):
    samples = [finish(tiny_engine.sample(ask(role))) for role in Role]
    expected = hashlib.sha256(noise_of(7).numpy().tobytes()).hexdigest()
    assert {sample.noise_sha256 for sample in samples} == {expected}


@pytest.mark.parametrize(
    ("values", "nfe"),
    [
        ({"role": Role.TEACHER}, 20),
        ({"role": Role.TEACHER_FEW}, 8),
        ({"role": Role.TEACHER_FEW, "guidance_scale": 1.0}, 4),
        ({"role": Role.TEACHER_FEW, "steps": 2}, 4),
        ({"role": Role.STUDENT}, 4),
        ({"role": Role.STUDENT, "steps": 1}, 1),
        ({"role": Role.STUDENT, "guidance_scale": 2.0}, 8),
    ],
)
def test_counted_evaluations_are_those_of_the_plan(tiny_engine, values, nfe):
    request = ask(**values)
    assert finish(tiny_engine.sample(request)).nfe == nfe == make_plan(tiny_engine.presets[PRESET], request).nfe


def test_student_without_nodes_runs_on_the_uniform_grid_marked_as_untrained(tiny_engine):
    sample = finish(tiny_engine.sample(ask(Role.STUDENT, steps=3)))
    assert sample.sigmas == pytest.approx((1, 2 / 3, 1 / 3))
    assert not sample.trained


def test_batch_gives_the_single_pictures(tiny_engine):
    requests = [ask(prompt=prompt, seed=seed) for prompt, seed in [("a cat", 7), ("two dogs", 8), ("an owl", 9)]]
    singles = [finish(tiny_engine.sample(request)) for request in requests]
    batch = tiny_engine.sample_batch(requests)
    for single, one in zip(singles, batch, strict=True):
        assert np.abs(single.media.astype(int) - one.media).max() <= 1
        assert (one.noise_sha256, one.nfe) == (single.noise_sha256, single.nfe)


def test_batch_of_unlike_requests_is_refused(tiny_engine):
    with pytest.raises(ValueError, match="shares preset, role"):
        tiny_engine.sample_batch([ask(), ask(steps=3)])


def test_teacher_shows_its_latents_on_the_way_and_others_do_not(tiny_engine):
    events = list(tiny_engine.sample(ask()))
    progress, sample = events[:-1], events[-1]
    assert [each.step for each in progress] == list(range(11))
    shown = [each.step for each in progress if each.preview is not None]
    assert shown == [2, 4, 6, 8]
    assert progress[2].preview.shape == (SIZE_PX, SIZE_PX, 3) == sample.media.shape
    assert all(each.preview is None for each in tiny_engine.sample(ask(Role.TEACHER_FEW)) if isinstance(each, Progress))


def test_previews_are_not_on_the_clock(tiny_engine, monkeypatch):
    from tdm_core.backbones import sd3

    finish(tiny_engine.sample(ask()))
    seconds, decode = [0.0], sd3.decode
    monkeypatch.setattr("tdm_core.generation.watch.time.perf_counter", lambda: seconds[0])

    def one_second_decode(pipeline, latents):
        seconds[0] += 1
        return decode(pipeline, latents)

    monkeypatch.setattr(sd3, "decode", one_second_decode)
    sample = finish(tiny_engine.sample(ask()))
    assert seconds == [5.0]  # four previews and the picture
    assert sample.denoiser_seconds == 0.0
    assert 1.0 < sample.seconds < 1.5  # the text's encoding, remembered from the first run, is charged again


@pytest.mark.parametrize("preset", [PRESET, "unmerged"])
def test_teacher_is_the_same_before_and_after_the_student(tiny_engine, preset):
    few = ask(Role.TEACHER_FEW, preset)
    before = finish(tiny_engine.sample(few))
    finish(tiny_engine.sample(ask(Role.STUDENT, preset)))
    assert np.array_equal(finish(tiny_engine.sample(few)).media, before.media)


def test_progress_arrives_while_the_run_goes_on(tiny_engine):
    events = tiny_engine.sample(ask(steps=50))
    first = next(events)
    assert (first.step, first.steps) == (0, 50)
    events.close()


def test_closing_the_generator_stops_the_run_and_frees_the_device(tiny_engine, monkeypatch):
    from tdm_core.backbones import sd3

    finish(tiny_engine.sample(ask(steps=1)))  # warm
    calls, decode = [], sd3.decode
    monkeypatch.setattr(sd3, "decode", lambda *given: calls.append(1) or decode(*given))
    events = tiny_engine.sample(ask(steps=100), previews=False)
    next(events), next(events)
    events.close()
    assert calls == []  # it never reached its pixels
    assert isinstance(finish(tiny_engine.sample(ask(Role.STUDENT))), Sample)


def test_scheduler_that_would_shift_the_nodes_again_is_refused(tiny_system, tmp_path):
    from tdm_core.generation.engine import Engine
    from tdm_core.generation.presets import load_presets

    text = (tiny_system / "presets" / "tiny.toml").read_text()
    (tmp_path / "shifted.toml").write_text(text.replace("[teacher]", "[teacher]\nscheduler_config = { shift = 3.0 }"))
    engine = Engine(load_presets([tmp_path]), device="cpu", threads=1)
    with pytest.raises(PresetError, match=r"shifted\.toml: teacher: The scheduler would shift the given time nodes"):
        finish(engine.sample(ask(preset="shifted")))
    assert finish(engine.sample(ask(preset="shifted", grid=Grid.SCHEDULER))).sigmas == ()


def test_unknown_preset_is_refused_with_the_known_ones(tiny_engine):
    with pytest.raises(PresetError, match="no preset 'sdxl'; there are: tiny, unmerged"):
        next(tiny_engine.sample(ask(preset="sdxl")))


def test_import_of_the_engine_loads_no_torch():
    import subprocess
    import sys

    program = "import sys, tdm_core.generation.engine as e; e.Engine({}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_first_clock_is_not_charged_the_warm_ups_cold_encoding(tiny_system, monkeypatch):
    """A prompt's first run encodes it twice, cold in the warm-up and once more; later runs are charged the latter."""
    engine, spent = Engine(load_presets([tiny_system / "presets"]), device="cpu", threads=1), []
    request = SampleRequest(preset="tiny", role=Role.TEACHER, prompt="a cat", seed=0)
    engine.load("tiny")
    encode = engine._systems["tiny"].family.encode

    def slow_at_first(*arguments, **options):
        spent.append(0.3 if not spent else 0.0)
        time.sleep(spent[-1])
        return encode(*arguments, **options)

    monkeypatch.setattr(engine._systems["tiny"].family, "encode", slow_at_first, raising=False)
    first, second = (finish(engine.sample(request)) for _ in range(2))
    assert spent[0] == 0.3
    assert max(first.text_seconds, second.text_seconds) < 0.3


def test_a_loaded_system_runs_while_another_one_loads(tiny_system, monkeypatch):
    engine = Engine(load_presets([tiny_system / "presets"]), device="cpu", threads=1)
    finish(engine.sample(ask(Role.STUDENT, steps=1)))
    load, begun, go_on = base.load_pipeline, threading.Event(), threading.Event()

    def slow_load(*args, **options):
        begun.set()
        assert go_on.wait(60)
        return load(*args, **options)

    monkeypatch.setattr(base, "load_pipeline", slow_load)
    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(lambda: finish(engine.sample(ask(preset="unmerged", steps=1))))
        try:
            assert begun.wait(60)
            for role in (Role.STUDENT, Role.TEACHER):
                request = ask(role, steps=1)
                assert pool.submit(lambda asked=request: finish(engine.sample(asked))).result(60).steps == 1
            assert not other.done()
        finally:
            go_on.set()
        assert other.result(60).steps == 1
