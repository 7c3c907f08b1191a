"""A generation that is killed ten times, in children of a process without threads: ``python -m ... FOLDER``."""

import os
import random
import signal
import sys
import time
from pathlib import Path

from tdm_core.evaluation.arms import choose_arms
from tdm_core.evaluation.harness import generate
from tdm_core.evaluation.suites import load_suite
from tests.evaluation.conftest import DrawingEngine, make_preset

KILLS = 10
LATEST_SECONDS = 0.01  # from the first files of a life to its kill
PROMPTS, SEEDS, BATCH = 60, 2, 3
PICTURES = PROMPTS * SEEDS  # two batches a life are 60


class UnhurriedEngine(DrawingEngine):
    """However fast the machine is, there is work left to be killed."""

    def sample_batch(self, requests):
        time.sleep(LATEST_SECONDS)
        return super().sample_batch(requests)


def run(folder: Path, preset, shard=(0, 1)) -> None:
    arms = choose_arms(preset, ["student"])
    generate(
        folder,
        preset=preset,
        suite=load_suite("scenes"),
        arms=arms,
        sampler=UnhurriedEngine({preset.name: preset}),
        limit=PROMPTS,
        seeds=SEEDS,
        batch_size=BATCH,
        shard=shard,
    )


def child(*arguments) -> int:
    pid = os.fork()
    if pid == 0:
        run(*arguments)
        os._exit(0)
    return pid


def files(folder: Path) -> int:
    return sum(1 for path in folder.rglob("*") if path.is_file())


def main(root: Path) -> None:
    root.mkdir(exist_ok=True)
    preset, rng = make_preset(root), random.Random(0)
    folder, killed = root / "killed", 0
    while killed < KILLS:
        before, pid = files(folder), child(folder, preset)
        while files(folder) <= before + 1:
            time.sleep(0.0005)
        time.sleep(rng.random() * LATEST_SECONDS)
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status), "the run ended before it could be killed"
        killed += 1
    run(folder, preset)
    run(root / "whole", preset)
    for pid in [child(root / "two", preset, (rank, 2)) for rank in (1, 0)]:
        assert os.waitpid(pid, 0)[1] == 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))
