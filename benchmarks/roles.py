"""One base for all roles: memory of teacher and student against the teacher alone, time to switch, many users at once.

``python -m benchmarks.roles [PRESET ...]``, the minis if none is named; the many users ask the first alone.  Each is
measured merged, with the student as a second denoiser, and unmerged, with its LoRA beside the weights of the one.
Memory is the peak of a process of its own, which at a mini's size is mostly the libraries': the weights are told beside
it.  At a published size, where no weights are, they are counted on the meta device.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from statistics import median

import numpy as np
import torch

from benchmarks.rows import Measure, save
from benchmarks.trainer_memory import RANK, SD3, SD3_TARGETS
from tdm_core.backbones.adapters import LoraRoles, NetworkRole
from tdm_core.backbones.shapes import network_shape
from tdm_core.backbones.system import System
from tdm_core.generation.batching import Batcher
from tdm_core.generation.engine import Engine
from tdm_core.generation.sample import Role, Sample, SampleRequest, finish
from tdm_core.settings import Settings
from tdm_core.wiring import Wiring

MINIS = ("mini-sd3", "mini-pixart", "mini-cogvideox")
USERS, REQUESTS = 8, 200
SWITCHES = 50
PROMPTS = ("a cat left of a dog", "three foxes", "an owl on red", "two pears on a mint canvas", "a rocket")
MOVING_PROMPTS = ("a cat moving left", "an owl standing still", "a fox moving up and a dog standing still")
SIDES = (Role.TEACHER, Role.STUDENT)


def main(*names: str) -> None:
    names = names or MINIS
    measures = [each for name in names for each in (*memory(name), *weights_and_switches(name))]
    measures += [memory_at_size(), *interleaved(names[0])]
    for measure in measures:
        print(f"{measure.what:110} {measure.value:8.3f} {measure.unit:3} {measure.bar}")
    print(save("roles", " ".join(("python -m benchmarks.roles", *names)), measures))


def memory(name: str) -> list[Measure]:
    """Peak resident memory of a process that makes both sides' samples, over one that makes the teacher's alone."""
    teacher = _in_a_process_of_its_own(name, SIDES[:1], merge=True)  # it has no student to merge
    measures = []
    for merge in (True, False):
        both = _in_a_process_of_its_own(name, SIDES, merge=merge)
        what = f"{_named(name, merge)}: peak memory of a process, both sides / teacher ({teacher / 2**30:.2f} GiB)"
        measures.append(Measure(what=what, value=both / teacher, bar="<= 1.1", met=both <= 1.1 * teacher))
    return measures


def memory_at_size() -> Measure:
    """Weights in bfloat16 with the student's LoRA beside them, as every published preset is loaded, over the base's."""
    network = network_shape(SD3, torch.bfloat16)
    base = sum(parameter.nbytes for parameter in network.parameters())
    roles = LoraRoles(network, rank=RANK, alpha=RANK, targets=SD3_TARGETS, seed=0)
    lora = sum(parameter.numel() * 2 for parameter in roles.parameters(NetworkRole.STUDENT).values())
    what = f"weights of SD3 medium's denoiser with a LoRA of rank {RANK} / without"
    return Measure(what=what, value=(base + lora) / base, bar="<= 1.1", met=base + lora <= 1.1 * base)


def weights_and_switches(name: str) -> list[Measure]:
    """What the student adds to the weights in memory, and how long it takes from one role's pipeline to the other's."""
    measures = []
    for merge in (True, False):
        engine, named = _engine(name, merge=merge), _named(name, merge)
        finish(engine.sample(_request(name, 0, Role.TEACHER)))
        (system,) = engine._systems.values()
        teacher = _weight_bytes(system)
        finish(engine.sample(_request(name, 0, Role.STUDENT)))
        both = _weight_bytes(system)
        spent = _switches_ms(system)
        told, longest = f"{named}: switch of the role", max(spent)
        measures += [
            Measure(what=f"{named}: weights in memory, both sides / teacher", value=both / teacher),
            Measure(what=f"{told}, median", value=median(spent), unit="ms", n=SWITCHES),
            Measure(what=f"{told}, longest", value=longest, unit="ms", n=SWITCHES, bar="<= 50 ms", met=longest <= 50),
        ]
    return measures


def _weight_bytes(system: System) -> int:
    """Of all weights in memory; what both sides share counts once."""
    sides = [system.pipeline(student=student) for student in ((False, True) if system.has_student else (False,))]
    networks = [part for side in sides for part in side.components.values() if isinstance(part, torch.nn.Module)]
    held = {tensor.data_ptr(): tensor.nbytes for network in networks for tensor in network.state_dict().values()}
    return sum(held.values())


def _switches_ms(system: System) -> list[float]:
    """Each until the other role's pipeline is ready to run; the student is the one that ran last."""
    spent = []
    for index in range(SWITCHES):
        start = time.perf_counter()
        system.pipeline(student=bool(index % 2))
        spent.append(1000 * (time.perf_counter() - start))
    return spent


def interleaved(name: str) -> list[Measure]:
    """Requests of both roles from many threads at once, each against its twin that was made alone."""
    engine = Wiring(Settings.from_env()).engine
    asked = [_request(name, index, SIDES[index % 2]) for index in range(REQUESTS)]
    alone = [finish(engine.sample(request, previews=False)) for request in asked]
    gap = min(_apart(t, s) for t, s in zip(alone[0::2], alone[1::2], strict=True))
    crowd = _crowd(asked, lambda each: engine.sample(each, previews=False))
    batched = _crowd(asked, Batcher(engine).sample)
    return [
        _unlike(name, "unlike their serial twin", alone, crowd, levels=0),
        _unlike(name, "further than a level from it where they share batches", alone, batched, levels=1),
        Measure(what=f"{name}: levels between a teacher's and a student's picture, at least", value=gap),
    ]


def _crowd(asked: Sequence[SampleRequest], sample: Callable) -> list[Sample]:
    with ThreadPoolExecutor(USERS) as users:
        return list(users.map(lambda request: finish(sample(request)), asked))


def _unlike(name: str, what: str, alone: Sequence[Sample], together: Sequence[Sample], *, levels: int) -> Measure:
    wrong = sum(_apart(a, b) > levels for a, b in zip(alone, together, strict=True))
    return Measure(
        what=f"{name}: of {REQUESTS} requests of both roles from {USERS} threads, {what}",
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


def _named(name: str, merge: bool) -> str:
    as_shipped = merge == Wiring(Settings.from_env()).presets[name].student.merge
    return f"{name} {'merged' if merge else 'unmerged'}{', as shipped' * as_shipped}"


def _engine(name: str, *, merge: bool) -> Engine:
    wiring = Wiring(Settings.from_env())
    preset = wiring.presets[name]
    wiring.presets[name] = replace(preset, student=replace(preset.student, merge=merge))
    return wiring.engine


def _in_a_process_of_its_own(name: str, roles: Sequence[Role], *, merge: bool) -> int:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_peak_bytes, name, roles, merge).result()


def _peak_bytes(name: str, roles: Sequence[Role], merge: bool) -> int:
    engine = _engine(name, merge=merge)
    for role in (*roles, *roles):
        finish(engine.sample(_request(name, 0, role)))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
