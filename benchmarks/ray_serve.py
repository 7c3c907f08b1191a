"""Two one-thread replicas under Ray Serve against one, in the same run; and whether they draw what the engine draws.

Needs ``pip install "ray[serve]"``; without it this benchmark says so and leaves no row.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from statistics import median

from benchmarks.rows import Measure, save
from tdm_core.generation.engine import Engine
from tdm_core.generation.presets import load_presets
from tdm_core.generation.sample import Role, Sample, SampleRequest, finish
from tdm_core.serving.ray import RayEngine

PRESET, USERS, PICTURES, RUNS = "mini-sd3", 16, 192, 3


def main() -> None:
    if find_spec("ray") is None:
        print("Ray is not installed: pip install 'ray[serve]'")
        return
    presets = load_presets()
    rates: dict[int, list[float]] = {1: [], 2: []}
    drawn: list[Sample] = []
    for replicas in rates:
        engine = RayEngine(presets, replicas=replicas, device="cpu", threads=1)
        engine.warm_up(PRESET)
        crowd(engine)  # every size of batch is warm
        for _ in range(RUNS):
            began = time.perf_counter()
            drawn = crowd(engine)
            rates[replicas].append(PICTURES / (time.perf_counter() - began))
        engine.close()
    local = Engine(presets, device="cpu", threads=1)
    off = max(
        int(abs(made.media.astype(int) - finish(local.sample(request(seed))).media).max())
        for seed, made in enumerate(drawn[:USERS])
    )
    ratio = median(rates[2]) / median(rates[1])
    measures = [
        Measure(what="throughput, two replicas / one", value=ratio, unit="x", bar=">= 1.6", met=ratio >= 1.6),
        *(
            Measure(what=f"pictures a second, {replicas} replica(s) of one thread", value=median(found), unit="/s")
            for replicas, found in rates.items()
        ),
        Measure(what="largest difference from the local engine, of 255", value=off, bar="<= 1", met=off <= 1),
    ]
    for measure in measures:
        print(f"{measure.what:55} {measure.value:7.2f} {measure.unit} {measure.bar} {measure.met}")
    print(save("ray-serve", "make bench ARGS=ray_serve", measures))


def crowd(engine: RayEngine) -> list[Sample]:
    with ThreadPoolExecutor(USERS) as pool:
        return list(pool.map(lambda seed: finish(engine.sample(request(seed))), range(PICTURES)))


def request(seed: int) -> SampleRequest:
    return SampleRequest(preset=PRESET, role=Role.STUDENT, prompt="a cat left of a dog", seed=seed)


if __name__ == "__main__":
    main()
