"""Tables and plots of the comparison, made from the rows alone: ``python -m benchmarks.rivals --report``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.rival_arms import (
    ABLATIONS,
    LEARNING_RATES,
    METHODS,
    MORE_ABLATIONS,
    SMALL_BATCHES,
    STEPS,
    STOCHASTIC,
    SYSTEMS,
    TELLING,
    Teacher,
    alone,
    teachers,
)
from benchmarks.rival_plots import Line, line_plot
from benchmarks.rival_rows import RivalRow, Score, difference, mean, seed_spread
from benchmarks.rows import ROOT
from tdm_core.stats import BootstrapEstimate

BEGIN = "<!-- rivals: filled by `python -m benchmarks.rivals --report`, not by hand -->"
END = "<!-- end of rivals -->"
MAIN = "mini-sd3"
"""The system that all tables are made for; the others have the comparison at K = 4."""
Rows = Mapping[str, RivalRow]
COLORS = {"tdm": "#7c3aed", "dmd2": "#0e7490", "lcm": "#b45309", "teacher": "#64748b"}


def write(rows: Rows, root: Path = ROOT) -> None:
    """Fill both READMEs between the markers, and write the plots that they show."""
    for path, text in texts(rows).items():
        target = root / path
        if target.suffix == ".md":
            text = filled(target.read_text(encoding="utf-8"), text)
        target.write_text(text, encoding="utf-8")


def texts(rows: Rows) -> dict[str, str]:
    """What belongs into each file: a section of Markdown, or a whole plot."""
    by_system = {system: {name: row for name, row in rows.items() if row.system == system} for system in SYSTEMS}
    main, tables = by_system[MAIN], {system: rivals(of_one, system) for system, of_one in by_system.items()}
    files = {name: plot for name, plot in plots(main).items() if plot}
    pictures = {name: f"![{Path(name).stem}]({Path(name).name})" for name in files}
    long = []
    for system, of_one in by_system.items():
        long += [tables[system], differences(of_one, system)]
    long += [steps(main), ablations(main), rates(main)]
    shown = [picture.replace("](", "](../docs/") for picture in pictures.values()]
    short = [*tables.values(), *(picture.replace("](", "](docs/") for picture in pictures.values())]
    nothing = "No run has been recorded yet."
    return {
        "README.md": "\n\n".join(filter(None, short)) or nothing,
        "train/README.md": "\n\n".join(filter(None, [*long, *shown])) or nothing,
        **files,
    }


def filled(text: str, section: str) -> str:
    """``text`` with the section between its markers.

    Raises:
        ValueError: if the markers are gone.
    """
    before, found, rest = text.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise ValueError(f"the markers {BEGIN!r} and {END!r} are gone")
    return f"{before}{BEGIN}\n\n{section}\n\n{END}{after}"


def rivals(rows: Rows, system: str) -> str:
    """The arms at K = 4 with intervals and costs."""
    lines = []
    for arm in (SYSTEMS[system].full, *_best_teachers(rows, 4)):
        if found := _of(rows, arm.name):
            score = found[0].own(arm.steps)
            lines.append([f"{arm.title}, {arm.steps} steps", str(score.nfe), *_scores(found, arm.steps), "", ""])
    for student in (*METHODS, STOCHASTIC):
        if found := _of(rows, student.name):
            forwards = sum(row.forwards for row in found) / len(found)
            minutes = sum(row.minutes for row in found) / len(found)
            costs = [f"{forwards:,.0f}", f"{minutes:.1f}"]
            lines.append([student.title, str(student.steps), *_scores(found, student.steps), *costs])
    if not lines:
        return ""
    judged = "mini-VBench [95 %]" if SYSTEMS[system].moving else "scene score [95 %]"
    return _table([f"{system}, K = 4", "NFE", judged, "seeds ±", "Frechet", "diversity", "forwards", "minutes"], lines)


def differences(rows: Rows, system: str) -> str:
    """TDM against each other arm at its number of evaluations, caption by caption."""
    lines = []
    for steps in STEPS:
        ours, *others = METHODS if steps == 4 else alone(METHODS, steps)
        names = [(other.title, other.name) for other in others]
        names += [(arm.title, arm.name) for arm in _best_teachers(rows, steps) if arm.nfe == steps]
        for title, name in names:
            if (mine := _passed(rows, ours.name, steps)) and (theirs := _passed(rows, name, None)):
                lines.append([str(steps), f"TDM - {title}", _signed(difference(mine, theirs))])
    for other in METHODS:
        if (mine := _passed(rows, STOCHASTIC.name, 4)) and (theirs := _passed(rows, other.name, 4)):
            lines.append(["4", f"{STOCHASTIC.title} - {other.title}", _signed(difference(mine, theirs))])
    head = [f"{system}, K", "paired, same captions and noises", "difference [95 %]"]
    return _table(head, lines) if lines else ""


def ablations(rows: Rows) -> str:
    """Each change beside TDM as it is, and what the paper saw."""
    base, lines = _passed(rows, ABLATIONS[0].name, 4), []
    for arm in (*ABLATIONS, *MORE_ABLATIONS):
        if base and (found := _passed(rows, arm.name, 4)):
            change = "" if arm is ABLATIONS[0] else _signed(difference(found, base))
            lines.append([arm.title, str(len(found)), _interval(mean(found)), change, arm.paper])
    head = ["K = 4", "seeds", "scene score [95 %]", "change [95 %]", "paper (HPS)"]
    return _table(head, lines) if len(lines) > 1 else ""


def steps(rows: Rows) -> str:
    """Score by number of steps: the teacher at equal evaluations, each method trained for it alone, one for all."""
    by_steps = {k: METHODS if k == 4 else alone(METHODS, k) for k in STEPS}
    lines = [["teacher at equal NFE", *(_cell(_best_at(rows, k)) for k in STEPS)]]
    for index, method in enumerate(METHODS):
        alone_ = [_passed(rows, by_steps[k][index].name, k) for k in STEPS]
        lines.append([f"{method.title}, trained for K alone", *(_cell(scores) for scores in alone_)])
    for arm in TELLING:
        cells = []
        for k in STEPS:
            mine, single = _passed(rows, arm.name, k), _passed(rows, by_steps[k][0].name, k)
            change = f" ({_signed(difference(mine, single[:1]))})" if mine and single else ""
            cells.append(_cell(mine) + change)
        lines.append([f"{arm.title} (change against alone)", *cells])
    lines = [line for line in lines if any(line[1:])]
    return _table(["", *(f"K = {k}" for k in STEPS)], lines) if lines else ""


def rates(rows: Rows) -> str:
    """Score by the student's learning rate and by batch size, from which each method's own are chosen."""
    lines = []
    for method, small in zip(METHODS, SMALL_BATCHES, strict=True):
        names = [f"{method.name}-{rate:g}" for rate in LEARNING_RATES]
        cells = [_cell(_passed(rows, name, 4)) for name in (*names, small.name)]
        lines += [[method.title, *cells]] if any(cells) else []
    head = ["K = 4, one seed; rate", *(f"{rate:g}" for rate in LEARNING_RATES), "best rate, batches of 16"]
    return _table(head, lines) if lines else ""


def plots(rows: Rows) -> dict[str, str]:
    """Quality against evaluations, and against what the training spent."""
    by_nfe, by_forwards = [], []
    teacher = [(k, scores) for k in STEPS if (scores := _best_at(rows, k))]
    if teacher:
        by_nfe.append(_line("teacher, cut", "teacher", teacher))
    for index, method in enumerate(METHODS):
        arms = {k: (METHODS if k == 4 else alone(METHODS, k))[index] for k in STEPS}
        found = [(k, scores) for k, arm in arms.items() if (scores := _passed(rows, arm.name, k))]
        if found:
            by_nfe.append(_line(method.title, method.name, found))
        curves = [row.curve for row in _of(rows, method.name)]
        if curves:
            points = [(at[0].forwards, [point.passed for point in at]) for at in zip(*curves, strict=True)]
            by_forwards.append(_line(method.title, method.name, points))
    arm = SYSTEMS[MAIN].full
    rule = [(f"teacher, {arm.nfe} NFE", mean(full).value)] if (full := _passed(rows, arm.name, None)) else []
    return {
        "docs/rivals-nfe.svg": line_plot(by_nfe, rule, x="network evaluations", log=True) if by_nfe else "",
        "docs/rivals-forwards.svg": line_plot(by_forwards, rule, x="network forwards of training")
        if by_forwards
        else "",
    }


def _line(title: str, name: str, points: Iterable[tuple[float, Sequence[str]]]) -> Line:
    estimates = [(x, mean(scores)) for x, scores in points]
    return Line(title=title, color=COLORS[name], points=[(x, e.value, e.low, e.high) for x, e in estimates])


def _of(rows: Rows, name: str) -> list[RivalRow]:
    return sorted((row for row in rows.values() if row.arm == name), key=lambda row: row.seed)


def _passed(rows: Rows, name: str, steps: int | None) -> list[str]:
    """Each seed's answers, by the method's own sampler; of a teacher, its only ones."""
    return [row.own(int(next(iter(row.scores))) if steps is None else steps).passed for row in _of(rows, name)]


def _best_teachers(rows: Rows, nfe: int) -> list[Teacher]:
    """At so many evaluations, and at twice as many: the best unguided and the best guided one of each solver."""
    groups: dict[tuple[str, bool, int], list[Teacher]] = {}
    for arm in teachers(nfe):
        if _of(rows, arm.name):
            groups.setdefault((arm.solver, arm.guided, arm.nfe), []).append(arm)
    return [max(arms, key=lambda arm: mean(_passed(rows, arm.name, None)).value) for arms in groups.values()]


def _best_at(rows: Rows, nfe: int) -> list[str]:
    """The answers of the best teacher at so many evaluations."""
    arms = [arm for arm in _best_teachers(rows, nfe) if arm.nfe == nfe]
    found = [_passed(rows, arm.name, None) for arm in arms]
    return max(found, key=lambda passed: mean(passed).value, default=[])


def _scores(found: Sequence[RivalRow], steps: int) -> list[str]:
    scores: list[Score] = [row.own(steps) for row in found]
    passed = [score.passed for score in scores]
    frechet, diversity = (sum(getattr(s, name) for s in scores) / len(scores) for name in ("frechet", "diversity"))
    spread = f"{seed_spread(passed):.3f}" if len(passed) > 1 else ""
    return [_interval(mean(passed)), spread, f"{frechet:.3f}", f"{diversity:.2f}"]


def _cell(passed: Sequence[str]) -> str:
    return _interval(mean(passed)) if passed else ""


def _interval(estimate: BootstrapEstimate) -> str:
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _signed(estimate: BootstrapEstimate) -> str:
    return f"{estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---"] * len(head)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *lines))
