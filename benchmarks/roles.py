"""One base for all roles: memory of teacher and student against the teacher alone, time to switch, many users at once.

``python -m benchmarks.roles [PRESET]``.  Memory is the peak of a process of its own for each side; at a published size,
where no weights are, it is counted on the meta device.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from statistics import median

import numpy as np
import torch

from benchmarks.rows import Measure, save
from benchmarks.trainer_memory import RANK, SD3, SD3_TARGETS
from tdm_core.backbones.adapters import LoraRoles, NetworkRole
from tdm_core.backbones.shapes import network_shape
from tdm_core.generation.batching import Batcher
from tdm_core.generation.sample import Role, Sample, SampleRequest, finish
from tdm_core.settings import Settings
from tdm_core.wiring import Wiring

USERS, REQUESTS = 8, 200
SWITCHES = 50
PROMPTS = ("a cat left of a dog", "three foxes", "an owl on red", "two pears on a mint canvas", "a rocket")
MOVING_PROMPTS = ("a cat moving left", "an owl standing still", "a fox moving up and a dog standing still")
SIDES = (Role.TEACHER, Role.STUDENT)


def main(name: str = "mini-sd3") -> None:
    measures = [memory(name), memory_at_size(), switch(name), *interleaved(name)]
    for measure in measures:
        print(f"{measure.what:80} {measure.value:8.3f} {measure.unit:3} {measure.bar}")
    print(save("roles", f"python -m benchmarks.roles {name}", measures))


def memory(name: str) -> Measure:
    """Peak resident memory of a process that makes both sides' samples, over one that makes the teacher's alone."""
    both, teacher = (_in_a_process_of_its_own(name, roles) for roles in (SIDES, SIDES[:1]))
    what = f"peak memory of a process, teacher and student / teacher alone ({teacher / 2**30:.2f} GiB)"
    return Measure(what=what, value=both / teacher, bar="<= 1.1", met=both <= 1.1 * teacher)


def memory_at_size() -> Measure:
    """Weights in bfloat16 with the student's LoRA beside them, as every published preset is loaded, over the base's."""
    network = network_shape(SD3, torch.bfloat16)
    base = sum(parameter.nbytes for parameter in network.parameters())
    roles = LoraRoles(network, rank=RANK, alpha=RANK, targets=SD3_TARGETS, seed=0)
    lora = sum(parameter.numel() * 2 for parameter in roles.parameters(NetworkRole.STUDENT).values())
    what = f"weights of SD3 medium's denoiser with a LoRA of rank {RANK} / without"
    return Measure(what=what, value=(base + lora) / base, bar="<= 1.1", met=base + lora <= 1.1 * base)


def switch(name: str) -> Measure:
    """From one role's pipeline to the other's, ready to run; longest of many."""
    engine = Wiring(Settings.from_env()).engine
    finish(engine.sample(_request(name, 0, Role.STUDENT)))
    (system,) = engine._systems.values()
    spent = []
    for index in range(SWITCHES):
        start = time.perf_counter()
        system.pipeline(student=bool(index % 2))
        spent.append(1000 * (time.perf_counter() - start))
    what = f"switch of the role, median {median(spent):.3f} ms, longest"
    return Measure(what=what, value=max(spent), unit="ms", n=SWITCHES, bar="<= 50 ms", met=max(spent) <= 50)


def interleaved(name: str) -> list[Measure]:
    """Requests of both roles from many threads at once, each against its twin that was made alone."""
    engine = Wiring(Settings.from_env()).engine
    asked = [_request(name, index, SIDES[index % 2]) for index in range(REQUESTS)]
    alone = [finish(engine.sample(request, previews=False)) for request in asked]
    gap = min(_apart(t, s) for t, s in zip(alone[0::2], alone[1::2], strict=True))
    crowd = _crowd(asked, lambda each: engine.sample(each, previews=False))
    batched = _crowd(asked, Batcher(engine).sample)
    return [
        _unlike("unlike their serial twin", alone, crowd, levels=0),
        _unlike("further than a level from it where they share batches", alone, batched, levels=1),
        Measure(what="levels between a teacher's and a student's picture, at least", value=gap),
    ]


def _crowd(asked: Sequence[SampleRequest], sample: Callable) -> list[Sample]:
    with ThreadPoolExecutor(USERS) as users:
        return list(users.map(lambda request: finish(sample(request)), asked))


def _unlike(what: str, alone: Sequence[Sample], together: Sequence[Sample], *, levels: int) -> Measure:
    wrong = sum(_apart(a, b) > levels for a, b in zip(alone, together, strict=True))
    return Measure(
        what=f"of {REQUESTS} requests of both roles from {USERS} threads, {what}",
        value=wrong,
        n=REQUESTS,
        bar="0",
        met=wrong == 0,
    )


def _apart(a: Sample, b: Sample) -> int:
    return int(np.abs(a.media.astype(int) - b.media).max())


def _request(name: str, index: int, role: Role) -> SampleRequest:
    prompts = MOVING_PROMPTS if name == "mini-cogvideox" else PROMPTS
    pair = index // 2  # both roles of a prompt and a seed
    return SampleRequest(preset=name, role=role, prompt=prompts[pair % len(prompts)], seed=pair)


def _in_a_process_of_its_own(name: str, roles: Sequence[Role]) -> int:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_peak_bytes, name, roles).result()


def _peak_bytes(name: str, roles: Sequence[Role]) -> int:
    engine = Wiring(Settings.from_env()).engine
    for role in (*roles, *roles):
        finish(engine.sample(_request(name, 0, role)))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
