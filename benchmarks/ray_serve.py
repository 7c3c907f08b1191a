"""Two one-thread replicas under Ray Serve against one, in the same run; and whether they draw what the engine draws.

Needs ``pip install "ray[serve]"``; without it this benchmark says so and leaves no row.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from statistics import median

from benchmarks.rows import Measure, save
from tdm_core.generation.engine import Engine
from tdm_core.generation.presets import load_presets
from tdm_core.generation.sample import Role, Sample, SampleRequest, finish
from tdm_core.serving.ray import RayEngine

PRESET, USERS, RUNS = "mini-sd3", 16, 3
WORK = {
    "student's pictures": [Role.STUDENT] * 192,
    "comparisons' pictures": [Role.STUDENT, Role.TEACHER_FEW, Role.TEACHER] * 32,
}
"""Students alone, where asking is a good share of the work, and what the Compare tab asks for."""


def main() -> None:
    if find_spec("ray") is None:
        print("Ray is not installed: pip install 'ray[serve]'")
        return
    presets = load_presets()
    seconds: dict[tuple[str, int], float] = {}
    drawn: list[Sample] = []
    for replicas in (1, 2):
        engine = RayEngine(presets, replicas=replicas, device="cpu", threads=1)
        engine.warm_up(PRESET)
        for what, roles in WORK.items():
            crowd(engine, roles)  # every size of batch is warm
            taken = []
            for _ in range(RUNS):
                began = time.perf_counter()
                drawn = crowd(engine, roles)
                taken.append(time.perf_counter() - began)
            seconds[what, replicas] = median(taken)
        engine.close()
    local = Engine(presets, device="cpu", threads=1)
    off = max(
        int(abs(made.media.astype(int) - finish(local.sample(request(seed, role))).media).max())
        for seed, (role, made) in enumerate(zip([*WORK.values()][-1][:USERS], drawn, strict=False))
    )
    measures = []
    for what, roles in WORK.items():
        ratio = seconds[what, 1] / seconds[what, 2]
        told = f"throughput, two replicas / one, {what}"
        measures.append(Measure(what=told, value=ratio, unit="x", n=len(roles), bar=">= 1.6", met=ratio >= 1.6))
        measures += [
            Measure(
                what=f"{what} a second, {replicas} replica(s) of one thread",
                value=len(roles) / seconds[what, replicas],
                unit="/s",
            )
            for replicas in (1, 2)
        ]
    measures.append(
        Measure(what="largest difference from the local engine, of 255", value=off, bar="<= 1", met=off <= 1)
    )
    for measure in measures:
        print(f"{measure.what:64} {measure.value:7.2f} {measure.unit} {measure.bar} {measure.met}")
    print(save("ray-serve", "make bench ARGS=ray_serve", measures))


def crowd(engine: RayEngine, roles: Sequence[Role]) -> list[Sample]:
    """One sample for each, asked by so many users at once."""
    with ThreadPoolExecutor(USERS) as pool:
        return list(pool.map(lambda asked: finish(engine.sample(request(*asked))), enumerate(roles)))


def request(seed: int, role: Role) -> SampleRequest:
    return SampleRequest(preset=PRESET, role=role, prompt="a cat left of a dog", seed=seed)


if __name__ == "__main__":
    main()
