"""GenEval by its own program (mmdet's Mask2Former, CLIP), in an environment of its own; see ``evaluation/bridges.py``.

The only metric here that may be printed as GenEval.  Its verdicts are kept beside the run, so that the program sees
each picture once.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tdm_core.errors import EvaluationError
from tdm_core.evaluation.bridges import Bridge, call
from tdm_core.evaluation.export import lay_out
from tdm_core.evaluation.manifest import Picture
from tdm_core.evaluation.metrics import Measured
from tdm_core.evaluation.metrics.items import SCORES, score_key, summarised
from tdm_core.evaluation.metrics.kept import kept_together
from tdm_core.evaluation.runs import Run, check_same_noise
from tdm_core.evaluation.suites import Item

BRIDGES = "bridges"


@dataclass(frozen=True, kw_only=True)
class OriginalGeneval:
    bridge: Bridge
    NAME: str = "geneval"
    VERSION: str = "1"
    HIGHER_IS_BETTER: bool = True

    def measure(self, run: Run) -> Measured:
        check_same_noise(run, run.arms)
        jobs = {score_key(*job): job for arm in run.arms for job in run.pictures(arm)}
        verdicts = kept_together(
            run.folder / SCORES / "geneval.json",
            (self.VERSION, self.bridge.edition),
            {key: picture for key, (_, picture) in jobs.items()},
            lambda todo: self._judge(run, {key: jobs[key] for key in todo}),
        )
        values: dict[str, dict[str, list[float]]] = {}
        for arm in run.arms:
            rows = values.setdefault(arm, {})
            for item, picture in run.pictures(arm):
                rows.setdefault(item.id, []).append(verdicts[score_key(item, picture)])
        fingerprint = {"detector": "GenEval's own program", "edition": self.bridge.edition or "not stated"}
        return summarised(run, values, by_tag=True, fingerprint=fingerprint)

    def _judge(self, run: Run, todo: Mapping[str, tuple[Item, Picture]]) -> dict[str, float]:
        """One call for an arm: GenEval's layout has one picture of each number."""
        found: dict[str, float] = {}
        for arm in run.arms:
            mine = {key: job for key, job in todo.items() if job[1].arm == arm}
            if mine:
                place = run.folder / BRIDGES / "geneval" / arm
                shutil.rmtree(place, ignore_errors=True)  # of an earlier call: its pictures would be judged again
                lay_out(run, list(mine.values()), "geneval", place / "pictures")
                results = place / "results.jsonl"
                places = {"pictures": str((place / "pictures").resolve()), "results": str(results.resolve())}
                call("geneval", self.bridge, places, log=place / "log.txt")
                verdicts = read_verdicts(results)
                for key, (item, picture) in mine.items():
                    name = f"{item.id.rpartition('-')[2]}/samples/{picture.number:04d}.png"
                    if name not in verdicts:
                        raise EvaluationError(f"{results}: says nothing of {name}.\nSee {place / 'log.txt'}.")
                    found[key] = verdicts[name]
        return found


def read_verdicts(path: Path) -> dict[str, float]:
    """GenEval's results: 1 or 0 by the picture's last three folders.

    Raises:
        EvaluationError: if the program left no such file, or another.
    """
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return {"/".join(Path(row["filename"]).parts[-3:]): float(bool(row["correct"])) for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvaluationError(f"{path}: not what GenEval's program writes ({error!r:.100}).") from None
