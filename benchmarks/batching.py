"""Many visitors who ask for student pictures at once: batched against one at a time, through the sampler of the page.

Each of 16 users asks, looks at nothing, and asks again; both ways take turns, so that whatever else the machine does
falls on both.  ``python -m benchmarks.batching [PRESET]`` runs it for another preset.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median

from benchmarks.rows import Measure, save
from tdm_core.generation.batching import Batcher
from tdm_core.generation.sample import Role, Sampler, SampleRequest, finish
from tdm_core.settings import Settings
from tdm_core.wiring import Wiring

USERS, PICTURES_EACH, RUNS = 16, 4, 5


def main(name: str = "mini-sd3") -> None:
    wiring = Wiring(Settings.from_env())
    measures = compare(wiring.engine.sample, Batcher(wiring.engine).sample, name, on_gpu=_on_gpu(wiring))
    for measure in measures:
        print(f"{measure.what:60} {measure.value:8.2f} {measure.unit:10} {measure.bar} {measure.met}")
    print(save("batching", f"python -m benchmarks.batching {name}", measures))


def compare(alone: Sampler, together: Sampler, preset: str, *, on_gpu: bool) -> list[Measure]:
    """Pictures a second and the median wait, both ways; medians over the runs."""
    rates: dict[str, list[float]] = {"alone": [], "together": []}
    waits: dict[str, list[float]] = {"alone": [], "together": []}
    for run in range(RUNS + 1):
        for name, sample in (("alone", alone), ("together", together)):
            rate, waited = crowd(sample, preset)
            if run:  # the first warms every size of batch up
                rates[name].append(rate)
                waits[name].append(waited)
    ratio, least = median(rates["together"]) / median(rates["alone"]), 4.0 if on_gpu else 1.5
    n = USERS * PICTURES_EACH * RUNS
    return [
        Measure(
            what=f"pictures a second, {USERS} users, batched / one at a time",
            value=ratio,
            unit="x",
            n=n,
            bar=f">= {least:g}",
            met=ratio >= least,
        ),
        *(
            Measure(what=f"pictures a second, {USERS} users, {told}", value=median(rates[name]), unit="/s", n=n)
            for name, told in (("together", "batched"), ("alone", "one at a time"))
        ),
        *(
            Measure(what=f"median wait for a picture, {told}", value=median(waits[name]), unit="s", n=n)
            for name, told in (("together", "batched"), ("alone", "one at a time"))
        ),
    ]


def crowd(sample: Sampler, preset: str) -> tuple[float, float]:
    """Pictures a second over all users, and the median seconds that one waits for a picture."""

    def user(number: int) -> list[float]:
        waited = []
        for picture in range(PICTURES_EACH):
            seed = number * PICTURES_EACH + picture
            began = time.perf_counter()
            finish(sample(SampleRequest(preset=preset, role=Role.STUDENT, prompt="a cat left of a dog", seed=seed)))
            waited.append(time.perf_counter() - began)
        return waited

    began = time.perf_counter()
    with ThreadPoolExecutor(USERS) as pool:
        waits = [seconds for user_waits in pool.map(user, range(USERS)) for seconds in user_waits]
    return USERS * PICTURES_EACH / (time.perf_counter() - began), median(waits)


def _on_gpu(wiring: Wiring) -> bool:
    import torch  # noqa: PLC0415 -- only to say which bar holds

    return wiring.settings.device != "cpu" and torch.cuda.is_available()


if __name__ == "__main__":
    main(*sys.argv[1:])
