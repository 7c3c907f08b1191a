"""A run's files laid out as other people's scorers expect them: GenEval, VBench, T2V-CompBench.

* ``geneval``: ``00000/metadata.jsonl`` and ``00000/samples/0000.png`` for each prompt (djghosh13/geneval).
* ``vbench``: ``<the prompt that is scored>-<number>.mp4`` in one folder (Vchitect/VBench); lengthened prompts were
  sampled, the short ones give the names.
* ``t2v-compbench``: ``<category>/0001.mp4`` in the order of the category's prompts (KaiyueSun98/T2V-CompBench); its
  scorers are scripts inside three other repositories, so exporting is as far as this goes.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from tdm_core.errors import ConfigError, EvaluationError
from tdm_core.evaluation.manifest import Picture
from tdm_core.evaluation.runs import Run
from tdm_core.evaluation.suites import Item

Made = list[tuple[Item, Picture]]


def export(run: Run, arm: str, layout: str, out: Path) -> int:
    """Lay out an arm's files under ``out``; how many they are.

    Raises:
        ConfigError: if there is no such layout or arm, or ``out`` holds something already.
        EvaluationError: if files are missing, changed, or not what the layout is for.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"--layout {layout}: no such layout; there are: {', '.join(LAYOUTS)}")
    if arm not in run.arms:
        raise ConfigError(f"--role {arm}: the run has no such row; there are: {', '.join(run.arms)}")
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"--out {out}: holds something already; name a new folder")
    return lay_out(run, run.pictures(arm), layout, out)


def lay_out(run: Run, made: Made, layout: str, out: Path) -> int:
    """The same of chosen pictures, over whatever is there."""
    names = LAYOUTS[layout](made, out)
    for (_, picture), path in zip(made, names, strict=True):
        _place(run, picture, path)
    return len(set(names))


def geneval_names(made: Made, out: Path) -> list[Path]:
    """And what is asked of each prompt, beside its pictures."""
    names = []
    for item, picture in made:
        folder = out / item.id.rpartition("-")[2]
        if not item.clauses:
            raise EvaluationError(f"geneval: {item.id} has no clauses; this layout fits the geneval suite.")
        folder.mkdir(parents=True, exist_ok=True)
        asked = {"tag": item.tag, **json.loads(item.clauses), "prompt": item.asked}
        (folder / "metadata.jsonl").write_text(json.dumps(asked) + "\n", encoding="utf-8")
        names.append(folder / "samples" / f"{picture.number:04d}.png")
    return names


def vbench_names(made: Made, out: Path) -> list[Path]:
    """A prompt that the list has twice has one set of clips: its noise depends on the prompt alone."""
    for item, _ in made:
        if "/" in item.asked or len(item.asked.encode()) > 240:
            raise EvaluationError(f"vbench: {item.asked[:60]!r} is no file's name; this layout fits the vbench suites.")
    return [out / f"{item.asked}-{picture.number}.mp4" for item, picture in made]


def compbench_names(made: Made, out: Path) -> list[Path]:
    order: dict[str, list[str]] = defaultdict(list)
    for item in sorted({item.id: item for item, _ in made}.values(), key=lambda item: item.id.rpartition("-")[2]):
        order[item.tag].append(item.id)
    if any(picture.number for _, picture in made):
        raise EvaluationError("t2v-compbench: one clip a prompt is scored; generate with --seeds 1.")
    places = {item: (tag, index) for tag, ids in order.items() for index, item in enumerate(ids, start=1)}
    return [out / places[item.id][0] / f"{places[item.id][1]:04d}.mp4" for item, _ in made]


LAYOUTS: dict[str, Callable[[Made, Path], list[Path]]] = {
    "geneval": geneval_names,
    "vbench": vbench_names,
    "t2v-compbench": compbench_names,
}


def video_tags(items: Iterable[Item]) -> dict[str, list[str]]:
    """VBench's dimensions by the prompt that is scored; a prompt belongs to several.

    Raises:
        EvaluationError: if the items are not VBench's.
    """
    try:
        return {item.asked: [str(name) for name in json.loads(item.clauses)] for item in items}
    except ValueError:
        raise EvaluationError("vbench: the run's prompts name no dimensions; this metric fits its suites.") from None


def _place(run: Run, picture: Picture, path: Path) -> None:
    """A hard link where the disk has them, else a copy; the file must be the one that was made."""
    run.check(picture)
    if Path(picture.file).suffix != path.suffix:
        raise EvaluationError(f"{picture.file}: this layout takes {path.suffix} files alone.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    try:
        os.link(run.folder / picture.file, path)
    except OSError:
        shutil.copyfile(run.folder / picture.file, path)
