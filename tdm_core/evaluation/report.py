"""Results as files: ``results.json`` for scripts, ``report.md`` and ``report.html`` for people; two runs compared."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from tdm_core.evaluation.anchors import Anchor, anchors_beside
from tdm_core.evaluation.gallery import Pair, pairs
from tdm_core.evaluation.html_report import page
from tdm_core.evaluation.metrics import Measured, Metric, main_metric
from tdm_core.evaluation.runs import Run
from tdm_core.generation.media import write_whole

RESULTS = "results.json"
REPORT = "report.md"
PAGE = "report.html"
COMPARISONS = "comparisons"
ANCHORS = "anchors"
ANCHORS_HEADER = ("published system", "steps", "published", "ours", "what it is", "may they be compared?")
FEWEST_PROMPTS = 4  # of a category: of two, 95 % intervals cover 86 % (benchmarks/evaluation.py)
COMPARISON_HEADER = ("paired, same prompts and noises", "value [95 %]", "share of resamples below 0")


def score(run: Run, metrics: Sequence[Metric]) -> dict[str, Any]:
    """Measure, write the three files, and return what ``results.json`` holds.

    ``{metric: {arm: {"value", "low", "high", "n", ...}}, "comparisons": {metric: {...}}, "metrics": ..., "run": ...,
    "pairs": ..., "anchors": {metric: table of strings}}``
    """
    measured = {metric.NAME: metric.measure(run) for metric in metrics}
    results: dict[str, Any] = {name: found.arms for name, found in measured.items()}
    results[COMPARISONS] = {name: found.comparisons for name, found in measured.items()}
    results["metrics"] = {
        metric.NAME: {
            "version": metric.VERSION,
            "higher_is_better": metric.HIGHER_IS_BETTER,
            "fingerprint": measured[metric.NAME].fingerprint,
        }
        for metric in metrics
    }
    results["run"] = {
        "preset": run.header.preset,
        "suite": run.header.suite,
        "suite_sha256": run.header.suite_sha256,
        "seeds": run.header.seeds,
        "rows": {arm: _sampling(run, arm) for arm in run.arms},
        "environment": run.header.environment,
    }
    seconds = {arm: {"value": row["seconds"]} for arm, row in results["run"]["rows"].items()}
    facts = _facts(run)
    anchors = {name: _anchors(run, name, found.fingerprint | facts) for name, found in measured.items()}
    timed = _anchors(run, "seconds", facts)
    tables = {name: _anchor_rows(found.arms, anchors[name]) for name, found in measured.items()}
    results[ANCHORS] = tables | ({"seconds": _anchor_rows(seconds, timed)} if timed else {})
    lower = [metric.NAME for metric in metrics if not metric.HIGHER_IS_BETTER]
    chosen = pairs(run, measured, lower_is_better=lower)
    results["pairs"] = {title: [_pair(pair) for pair in found] for title, found in chosen.items()}
    shown = page(run, results, anchors=anchors, pairs=chosen)
    write_whole(run.folder / RESULTS, (json.dumps(results, indent=2) + "\n").encode())
    write_whole(run.folder / REPORT, _report(run, measured, anchors, results[ANCHORS]).encode())
    write_whole(run.folder / PAGE, shown.encode())
    return results


def _sampling(run: Run, arm: str) -> dict[str, Any]:
    """How the arm's pictures were made, as counted and timed: a picture's share of its batch, median."""
    entry, made = run.header.arms[arm], [picture for _, picture in run.pictures(arm)]
    return {
        "steps": entry.steps,
        "guidance_scale": entry.guidance_scale,
        "nfe": median(picture.nfe for picture in made),
        "seconds": median(picture.seconds for picture in made),
        "denoiser_seconds": median(picture.denoiser_seconds for picture in made),
    }


def _pair(pair: Pair) -> dict[str, Any]:
    files = {"teacher": pair.teacher.file, "student": pair.student.file}
    return {"prompt": pair.prompt, "seed": pair.teacher.seed, "values": pair.values, **files}


def _facts(run: Run) -> dict[str, str]:
    """What is true of the run, as published figures ask for it."""
    head, (_, first) = run.header, run.pictures(run.arms[0])[0]
    height, width = run.pixels(first).shape[-3:-1]
    return {
        "suite": head.suite,
        "seeds": str(head.seeds),
        "limit": "none" if head.limit is None else str(head.limit),
        "base": head.base or head.preset,
        "size": f"{width}x{height}",
        "batch": str(first.batch_size),
        "device": head.environment.get("device") or head.environment.get("machine") or "not stated",
    }


def _anchors(run: Run, metric: str, facts: Mapping[str, str]) -> list[Anchor]:
    arms = {
        arm: {"steps": str(entry.steps), "guidance": f"{entry.guidance_scale:g}"}
        for arm, entry in run.header.arms.items()
    }
    return anchors_beside(metric, facts, family=run.header.family, arms=arms)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def _report(
    run: Run,
    measured: Mapping[str, Measured],
    anchors: Mapping[str, Sequence[Anchor]],
    anchor_rows: Mapping[str, Sequence[Sequence[str]]],
) -> str:
    head = run.header
    pictures = len(run.items) * head.seeds
    parts = [
        f"# {head.preset} on the {head.suite} suite\n",
        f"{len(run.items)} prompts x {head.seeds} pictures = {pictures} per row, each from the same noise in all rows."
        " Intervals: 95 %, prompts resampled. Seconds: a picture's share of its batch, median.\n",
        *_few_prompts(run),
        _sampling_table(run),
    ]
    if rows := anchor_rows.get("seconds"):
        parts.append(table(ANCHORS_HEADER, rows))
    for name, found in measured.items():
        parts += [f"## {name}\n", _arms_table(found)]
        if found.comparisons:
            rows = [[what, _figure(row), row.get("share_below_zero", "")] for what, row in found.comparisons.items()]
            parts.append(table(COMPARISON_HEADER, rows))
        if any("per_tag" in row for row in found.arms.values()):
            parts += [_tags_table(found), _reasons_table(found)]
        if any("scaled" in row for row in found.arms.values()):
            parts.append(_dimensions_table(found))
        if anchors[name]:
            parts += [table(ANCHORS_HEADER, anchor_rows[name]), _anchor_tags_table(found, anchors[name])]
    environment = ", ".join(f"{key} {value}" for key, value in head.environment.items() if value)
    return "\n".join([*filter(None, parts), f"Made with {environment}; suite {head.suite_sha256[:12]}.\n"])


def _sampling_table(run: Run) -> str:
    rows = []
    for arm, entry in run.header.arms.items():
        pictures = [picture for _, picture in run.pictures(arm)]
        seconds = median(picture.seconds for picture in pictures)
        grid = "scheduler's" if entry.sigmas is None else _nodes(entry.sigmas)
        nfe = sorted({picture.nfe for picture in pictures})
        rows.append([arm, entry.steps, f"{entry.guidance_scale:g}", "/".join(map(str, nfe)), grid, f"{seconds:.3f}"])
    return table(["row", "steps", "guidance", "NFE (counted)", "time nodes", "seconds"], rows)


def _nodes(sigmas: Sequence[float]) -> str:
    shown = [f"{sigma:.3g}" for sigma in sigmas]
    return ", ".join(shown if len(shown) <= 8 else [*shown[:2], "...", shown[-1]])


def _arms_table(found: Measured) -> str:
    rows = [[arm, _figure(row), row["n"], _number(row.get("floor"))] for arm, row in found.arms.items()]
    return table(["row", "value [95 %]", "n", "floor"], rows)


def _tags_table(found: Measured) -> str:
    tags = list(next(iter(found.arms.values()))["per_tag"])
    known = ("picture_accuracy", "prompt_accuracy_any", "mean_confidence", "mean_cosine", "median_speed_ratio")
    extra = [name for name in known if any(name in row for row in found.arms.values())]
    rows = [
        [arm, *(_number(row["per_tag"][tag]) for tag in tags), *(_number(row[name]) for name in extra)]
        for arm, row in found.arms.items()
    ]
    return table(["row", *tags, *(name.replace("_", " ") for name in extra)], rows)


def _reasons_table(found: Measured) -> str:
    reasons = sorted({reason for row in found.arms.values() for reason in row.get("reasons", ())})
    rows = [[arm, *(row["reasons"].get(reason, 0) for reason in reasons)] for arm, row in found.arms.items()]
    return table(["pictures that fail because of", *reasons], rows) if reasons else ""


def _dimensions_table(found: Measured) -> str:
    """Each dimension between its floor and its ceiling, and as it was measured."""
    dimensions = list(next(iter(found.arms.values()))["scaled"])
    rows = [
        [arm, *(f"{_number(row['scaled'][name])} ({_number(row['raw'][name])})" for name in dimensions)]
        for arm, row in found.arms.items()
    ]
    return table(["scaled (raw)", *(name.replace("_", " ") for name in dimensions)], rows)


def _few_prompts(run: Run) -> list[str]:
    """A warning where a category has so few prompts that no resampling can tell how they spread."""
    tag, prompts = min(Counter(item.tag for item in run.items).items(), key=lambda found: found[1])
    if prompts >= FEWEST_PROMPTS:
        return []
    told = f"{prompts} prompt{'s' if prompts > 1 else ''}"
    return [f"Too few for honest intervals: {tag} has {told}; under {FEWEST_PROMPTS} a category they are too narrow.\n"]


def _anchor_rows(arms: Mapping[str, Mapping[str, Any]], anchors: Sequence[Anchor]) -> list[list[str]]:
    """Published figures beside the values of our arms, under `ANCHORS_HEADER`."""
    return [
        [
            anchor.row.system,
            str(anchor.row.steps),
            f"{anchor.row.value:g}",
            _number(arms.get(anchor.row.role, {}).get("value")),
            f"{anchor.table.metric}; {anchor.table.source}",
            anchor.verdict,
        ]
        for anchor in anchors
    ]


def _anchor_tags_table(found: Measured, anchors: Sequence[Anchor]) -> str:
    """The same category by category: published, and ours in brackets."""
    tags = list(dict.fromkeys(tag for anchor in anchors for tag in anchor.row.per_tag))
    rows = []
    for anchor in anchors:
        if published := anchor.row.per_tag:
            ours = found.arms.get(anchor.row.role, {}).get("per_tag", {})
            cells = (
                f"{published[tag]:g} ({_number(ours.get(tag)) or '-'})" if tag in published else "" for tag in tags
            )
            rows.append([anchor.row.system, anchor.row.steps, *cells])
    return table(["published (ours)", "steps", *tags], rows) if rows else ""


def _figure(row: dict[str, Any]) -> str:
    return f"{_number(row['value'])} [{_number(row['low'])}, {_number(row['high'])}]"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def within(run: Run) -> str:
    """The paired differences between the rows of one run, by the main metric of its suite."""
    found = main_metric(run.header.suite).measure(run).comparisons
    rows = [[what, _figure(row), row.get("share_below_zero", "")] for what, row in found.items()]
    return f"# {run.folder}\n\n" + table(COMPARISON_HEADER, rows)


def compare(first: Run, second: Run) -> str:
    """Arm by arm what the second run does better than the first, with paired intervals where the runs allow it.

    By the main metric of the suite alone.
    """
    reasons = _incomparable(first, second)
    metric = main_metric(first.header.suite)
    rows = []
    for arm in first.arms:
        if arm in second.arms and not reasons:
            difference = metric.difference(first, second, arm)
            rows.append([arm, _figure(difference), difference["share_below_zero"]])
    title = f"# {second.folder} - {first.folder}\n"
    if reasons:
        return title + "\nNot comparable: " + "; ".join(reasons) + ".\n"
    return title + "\n" + table(["row", f"difference of {metric.NAME} [95 %]", "share of resamples below 0"], rows)


def _incomparable(first: Run, second: Run) -> list[str]:
    reasons = []
    if first.header.suite_sha256 != second.header.suite_sha256:
        reasons.append("the suites differ")
    if (first.header.limit, first.header.seeds) != (second.header.limit, second.header.seeds):
        reasons.append("the runs have other prompts or numbers of pictures")
    if not set(first.arms) & set(second.arms):
        reasons.append("no row is in both")
    return reasons
