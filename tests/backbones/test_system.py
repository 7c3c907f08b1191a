"""Both sides of a system: one text encoding, one base in memory, a quick switch, and what a prompt loses."""

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters
from torch._inductor import config as inductor

from tdm_core.backbones import sd3
from tdm_core.backbones.base import unread
from tdm_core.backbones.system import LoraSettings, SideSettings, System
from tdm_core.errors import ConfigError, LoadError
from tdm_core.generation.engine import Engine
from tdm_core.generation.sample import Role, SampleRequest, finish
from tests import tiny_systems as tiny
from tests.needs import need
from tests.tiny import tiny_pipeline


@pytest.fixture
def system(tiny_system):
    system = System(sd3, tiny_pipeline(), SideSettings(), device="cpu")
    system.add_student(tiny_system / "lora" / "pytorch_lora_weights.safetensors", LoraSettings(), SideSettings())
    return system


def test_a_prompt_is_encoded_once_for_all_roles_and_its_time_remembered(system, monkeypatch):
    asked = []
    encode = sd3.encode
    monkeypatch.setattr(
        sd3, "encode", lambda pipeline, prompts, **how: asked.append(prompts) or encode(pipeline, prompts, **how)
    )
    first = system.encode(["a cat", "a dog"], negative_prompt="", max_sequence_length=0)
    again = system.encode(["a dog", "a fox"], negative_prompt=None, max_sequence_length=0)
    assert asked == [["a cat", "a dog"], [""], ["a fox"]]
    assert first.saved_seconds == 0 < again.saved_seconds
    assert torch.equal(again.tensors["prompt_embeds"][0], first.tensors["prompt_embeds"][1])


def test_rows_of_text_are_those_of_the_stock_pipeline(system):
    pipeline = tiny_pipeline()
    found = system.encode(["a cat", "two dogs"], negative_prompt="red", max_sequence_length=0).tensors
    expected = pipeline.encode_prompt(["a cat", "two dogs"], None, None, negative_prompt="red", max_sequence_length=0)
    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    for name, tensor in zip(names, expected, strict=True):
        torch.testing.assert_close(found[name], tensor)


def test_student_shares_every_weight_of_the_base(system):
    """So that teacher and student need no more memory than one of them, but for the LoRA."""
    teacher, student = (system.pipeline(student=each) for each in (False, True))
    assert teacher.components.keys() == student.components.keys()
    for name, part in teacher.components.items():
        if isinstance(part, torch.nn.Module):
            assert student.components[name] is part


def test_switching_takes_milliseconds(system):
    seconds = []
    for student in [True, False] * 5:
        start = time.perf_counter()
        system.pipeline(student=student)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.05


def test_every_output_is_its_serial_twins_whoever_asks_meanwhile(tiny_engine):
    """200 requests of both roles from 8 threads, on one denoiser that carries the student's adapter."""
    kinds = [(role, seed) for role in (Role.STUDENT, Role.TEACHER_FEW) for seed in range(5)]

    def make(kind):
        request = SampleRequest(preset="unmerged", role=kind[0], prompt="a cat", seed=kind[1], steps=1)
        return finish(tiny_engine.sample(request, previews=False)).media

    twins = {kind: make(kind) for kind in kinds}
    assert not np.array_equal(twins[kinds[0]], twins[kinds[5]])
    asked = [kinds[index] for index in np.random.default_rng(0).integers(len(kinds), size=200)]
    barrier = threading.Barrier(8)

    def work(share):
        barrier.wait()
        return [np.array_equal(make(kind), twins[kind]) for kind in share]

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(work, [asked[start::8] for start in range(8)]))
    assert all(all(each) for each in outcomes)


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method:DeprecationWarning")  # of inductor's own import
def test_compiled_denoisers_draw_the_same_and_changing_roles_compiles_nothing(tiny_engine, monkeypatch):
    need(shutil.which("g++") or shutil.which("clang++"), "no C++ compiler is installed, so nothing is compiled")
    compiled = Engine(tiny_engine.presets, device="cpu", threads=1, compiled=True)

    def draw(engine, role):
        return finish(
            engine.sample(SampleRequest(preset="unmerged", role=role, prompt="a cat", seed=3), previews=False)
        )

    monkeypatch.setattr(inductor, "compile_threads", 1)  # a pool of processes takes longer to come up
    torch._dynamo.reset()
    counters.clear()
    for role in (Role.TEACHER, Role.STUDENT, Role.TEACHER):  # its code is made anew once the LoRA's layers are there
        ours, plain = draw(compiled, role).media, draw(tiny_engine, role).media
        assert np.abs(ours.astype(int) - plain.astype(int)).max() <= 1
    made = counters["stats"]["unique_graphs"]
    assert made > 0
    for role in (Role.TEACHER, Role.STUDENT):
        draw(compiled, role)
    assert counters["stats"]["unique_graphs"] == made


@pytest.mark.parametrize(
    ("base", "tokens", "prompt", "rest"),
    [
        ("sd15", 0, "a cat", ""),
        ("sd15", 0, "abcdefghijklmnopqrs", "opqrs"),
        ("pixart", 8, "a cat", ""),
        ("pixart", 8, "abcdefghij", "ghij"),
        ("sd3", 256, "abcdefghijklmnopqrs", ""),
    ],
    ids=["CLIP, short", "CLIP, long", "T5, short", "T5, long", "T5 reads what CLIP does not"],
)
def test_end_of_a_prompt_that_nobody_reads_is_told(base, tokens, prompt, rest):
    found = unread(tiny.BASES[base](), prompt, t5_tokens=tokens)
    assert found.replace(" ", "") == rest.replace(" ", "")


def test_alpha_that_the_strength_does_not_reckon_with_is_refused(tiny_system):
    system = System(sd3, tiny_pipeline(), SideSettings(), device="cpu")
    with pytest.raises(ConfigError, match=r"8 of its 8 layers bring an alpha, which the preset's strength 0.125"):
        system.add_student(
            tiny_system / "lora" / "pytorch_lora_weights.safetensors",
            LoraSettings(strength=0.125, alpha_in_file=False),
            SideSettings(),
        )


def test_offloading_without_a_gpu_is_refused_with_the_cure():
    with pytest.raises(LoadError, match="needs a GPU") as refusal:
        System(sd3, tiny_pipeline(), SideSettings(), device="cpu", offload="model")
    assert 'offload = "none"' in str(refusal.value)
