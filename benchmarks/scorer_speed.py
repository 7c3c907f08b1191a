"""How fast a run is judged: the scenes scorer over pictures on a disk, decoded and detected on all cores.

The same code that ``evaluate score`` runs, from PNG files to verdicts, on renders of the whole suite.
"""

from __future__ import annotations

import os
import tempfile
import time
from hashlib import sha256
from pathlib import Path

import numpy as np

from benchmarks.rows import Measure, save
from tdm_core.evaluation.metrics.kept import on_all_cores
from tdm_core.generation.media import decode_png, encode_png
from tdm_core.scenes.grammar import parse
from tdm_core.scenes.render import draw, layout
from tdm_core.scenes.scorer import Verdict, score
from tdm_core.scenes.suite import load_suite

LEAST_PER_SECOND = 100
RUNS = 3


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        measures = speed(Path(folder))
    for measure in measures:
        print(f"{measure.what:50} {measure.value:8.2f} {measure.unit} {measure.bar} {measure.met}")
    print(save("scorer-speed", "make bench ARGS=scorer_speed", measures))


def speed(folder: Path) -> list[Measure]:
    """Pictures per second of wall time and per second of processor time, the best of three runs."""
    suite, rng = load_suite(), np.random.default_rng(0)
    paths = {}
    for number, item in enumerate(suite):
        path = folder / f"{number:04d}.png"
        path.write_bytes(encode_png(draw(layout(parse(item.prompt), rng))))
        paths[path] = item

    def judge(path: Path) -> Verdict:
        content = path.read_bytes()
        sha256(content)  # as a run's files are checked
        return score(decode_png(content), paths[path].prompt, paths[path].tag)

    judge(next(iter(paths)))  # templates are made once
    wall, processor = [], []
    for _ in range(RUNS):
        began, used = time.perf_counter(), time.process_time()
        verdicts = on_all_cores(judge, paths)
        wall.append(len(paths) / (time.perf_counter() - began))
        processor.append(len(paths) / (time.process_time() - used))
    passed = sum(verdict.passed for verdict in verdicts) / len(verdicts)
    cores = os.cpu_count()
    return [
        Measure(
            what=f"pictures judged a second, {cores} cores",
            value=max(wall),
            unit="/s",
            n=len(paths),
            bar=f">= {LEAST_PER_SECOND}",
            met=max(wall) >= LEAST_PER_SECOND,
        ),
        Measure(what="pictures judged a second of processor time", value=max(processor), unit="/s", n=len(paths)),
        Measure(what="share of true renders that pass", value=passed, n=len(paths), bar=">= 0.99", met=passed >= 0.99),
    ]
