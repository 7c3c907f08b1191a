"""The study's store under ``kill -9``: 20 times during 2,000 votes, and no acknowledged vote may be lost."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from benchmarks.rows import ROOT, Measure, save
from tdm_core.storage import open_store

KILLS, VOTES_PER_LIFE = 20, 100


def main() -> None:
    acknowledged: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for life in range(KILLS):
            acknowledged |= one_life(Path(folder), f"life {life}")
        with closing(open_store(Path(folder))) as store:
            problems = store.problems("demo")
            with store.reading("demo") as records:
                stored = {vote.trial.id: vote.choice.value for vote in records.votes()}
    lost = sum(stored.get(trial) != choice for trial, choice in acknowledged.items())
    measures = [
        Measure(
            what=f"acknowledged votes lost over {KILLS} kills",
            value=lost,
            n=len(acknowledged),
            bar="0",
            met=lost == 0,
        ),
        Measure(what="breaks in the chain of votes afterwards", value=len(problems), bar="0", met=not problems),
    ]
    print(save("study_faults", "make bench ARGS=study_faults", measures))


def one_life(folder: Path, name: str) -> dict[str, str]:
    """Vote in a process of its own until it is killed; what it had acknowledged."""
    command = [sys.executable, "-m", "tests.storage.voter", str(folder), "-", name, "100000"]
    voter = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert voter.stdout
    lines = [voter.stdout.readline() for _ in range(VOTES_PER_LIFE)]
    voter.kill()
    rest, _ = voter.communicate()
    lines += [line for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    return {trial: choice for trial, choice in map(str.split, lines)}


if __name__ == "__main__":
    main()
