"""A run's report as one self-contained page: figures, plots, pairs of pictures, published figures; no network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from tdm_core.evaluation.anchors import Anchor
from tdm_core.evaluation.charts import Mark, bars, kind_of, scatter
from tdm_core.evaluation.gallery import Pair, data_uri
from tdm_core.evaluation.runs import Run

# The policy forbids the page to fetch anything, so "self-contained" is enforced where it is read.
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
KINDS = {
    "student": "student",
    "teacher": "teacher",
    "few": "teacher cut to the student's steps",
    "equal": "teacher at equal evaluations",
}

STYLE = """
:root{color-scheme:light dark;--paper:#fbfaf8;--card:#fff;--ink:#1d1c1a;--soft:#6a6862;--line:#e4e1da;
--student:#2468d8;--teacher:#c8641b;--few:#2c8a6a;--equal:#8a7f9c}
@media(prefers-color-scheme:dark){:root{--paper:#141517;--card:#1c1e21;--ink:#eceae6;--soft:#a3a19b;--line:#33363a;
--student:#74a9ff;--teacher:#f0a060;--few:#61c7a1;--equal:#b3a8c9}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1120px;padding:32px 20px 64px;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,sans-serif}
h1{font-size:26px;line-height:1.2;margin:0 0 6px}h2{font-size:19px;margin:44px 0 10px}
h3{font-size:15px;margin:24px 0 8px}
p{margin:0 0 12px;max-width:72ch}.soft,figcaption,footer{color:var(--soft)}footer{margin-top:48px;font-size:13px}
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:14px}
th,td{padding:6px 14px 6px 0;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600;color:var(--soft);white-space:nowrap}td.value{white-space:nowrap}td.verdict{min-width:210px}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(290px,1fr));gap:16px;margin:16px 0;
align-items:start}details{margin:12px 0}summary{cursor:pointer;color:var(--soft)}code{font-size:13px}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px;margin:0}
.card h3{margin-top:0}svg{display:block;width:100%;height:auto}svg text{fill:var(--soft)}svg text.name{fill:var(--ink)}
.grid{stroke:var(--line)}.whisker{stroke:var(--ink);stroke-width:1.5;fill:none;opacity:.75}
.student{fill:var(--student)}.teacher{fill:var(--teacher)}.few{fill:var(--few)}.equal{fill:var(--equal)}
.key{display:flex;flex-wrap:wrap;gap:4px 18px;font-size:13px;color:var(--soft);padding:0;margin:0;list-style:none}
.key i{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:6px}
.key .student i{background:var(--student)}.key .teacher i{background:var(--teacher)}
.key .few i{background:var(--few)}.key .equal i{background:var(--equal)}
.pairs{display:grid;grid-template-columns:repeat(auto-fill,minmax(250px,1fr));gap:16px}
.sides{display:grid;grid-template-columns:1fr 1fr;gap:6px}
.sides img,.sides video{width:100%;display:block;border-radius:6px;background:var(--line)}
figcaption{font-size:12px;margin-top:3px}.prompt{font-size:14px;margin:8px 0 0}
@media(max-width:640px){body{padding:24px 14px 48px}th,td{padding-right:10px}
code,td,td.value{font-size:12px;white-space:normal}
.anchors thead{display:none}.anchors tr{display:block;border-bottom:1px solid var(--line);padding:8px 0}
.anchors td{display:inline-block;border:0;padding:0 12px 0 0}.anchors td:first-child,.anchors td:nth-last-child(-n+2)
{display:block}.anchors td[data-name]::before{content:attr(data-name) " ";color:var(--soft)}}
"""


def page(
    run: Run,
    results: Mapping[str, Any],
    *,
    anchors: Mapping[str, Sequence[Anchor]],
    pairs: Mapping[str, Sequence[Pair]],
) -> str:
    """``results`` as `report.score` returns them; ``anchors`` by metric."""
    head = run.header
    title = f"{head.preset} on {head.suite}"
    count = len(run.items) * head.seeds
    environment = ", ".join(f"{key} {value}" for key, value in head.environment.items() if value)
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{len(run.items)} prompts × {head.seeds} pictures = {count} a row, all rows from the same'
        " noises. Intervals: 95 %, prompts resampled.</p>",
        _key({kind_of(arm) for arm in run.arms}),
        *(_metric(name, results, anchors.get(name, ())) for name in results["metrics"]),
        *(_gallery(run, pairs) if pairs else ()),
        "<h2>How the rows were made</h2>",
        _sampling(results["run"]["rows"]),
        f"<footer>{escape(environment)}; suite {head.suite_sha256[:12]}</footer>",
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _key(kinds: set[str]) -> str:
    shown = [f'<li class="{kind}"><i></i>{told}</li>' for kind, told in KINDS.items() if kind in kinds]
    return f'<ul class="key">{"".join(shown)}</ul>'


def _metric(name: str, results: Mapping[str, Any], anchors: Sequence[Anchor]) -> str:
    arms, rows = results[name], results["run"]["rows"]
    better = "higher" if results["metrics"][name]["higher_is_better"] else "lower"
    values = [[_code(arm), _figure(row), row["n"], _number(row.get("floor"))] for arm, row in arms.items()]
    compared = results["comparisons"].get(name, {})
    return "".join(
        [
            f'<h2>{escape(name)} <span class="soft">({better} is better)</span></h2>',
            _table(["row", "value [95 %]", "n", "floor"], values),
            f'<div class="plots">{"".join(_card(title, svg) for title, svg in plots(name, arms, rows))}</div>',
            _comparisons({what: row for what, row in compared.items() if not what.startswith("teacher")}),
            _folded({what: row for what, row in compared.items() if what.startswith("teacher")}),
            _anchors(arms, anchors),
        ]
    )


def _comparisons(rows: Mapping[str, Any]) -> str:
    return _table(
        ["paired, same prompts and noises", "[95 %]"], [[_name(what), _figure(row)] for what, row in rows.items()]
    )


def _folded(rows: Mapping[str, Any]) -> str:
    return f"<details><summary>The teacher's own differences</summary>{_comparisons(rows)}</details>" if rows else ""


def plots(name: str, arms: Mapping[str, Any], rows: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """A metric's plots with their titles: against evaluations, against seconds, by category."""
    marks = {arm: _mark(arm, row, rows[arm]) for arm, row in arms.items() if row["value"] is not None}
    if not marks:
        return
    for key, label in (("nfe", "network evaluations"), ("seconds", "seconds a picture")):
        if all(rows[arm][key] > 0 for arm in marks):
            placed = [Mark(**{**vars(mark), "x": rows[arm][key]}) for arm, mark in marks.items()]
            yield f"{name} against {label}", scatter(placed, x_label=label, y_label=name)
    shown = _best_of_each_kind(arms)
    tags = list(dict.fromkeys(tag for arm in shown for tag in arms[arm].get("per_tag_intervals", {})))
    if tags:
        groups = {tag: [_mark(arm, arms[arm]["per_tag_intervals"][tag], rows[arm]) for arm in shown] for tag in tags}
        yield f"{name} by category", bars(groups)


def _best_of_each_kind(arms: Mapping[str, Any]) -> list[str]:
    """One arm of each colour: of a cut teacher's variants the one that suits it best, of a student its own steps'."""
    best: dict[str, str] = {}
    for arm in sorted(arms, key=lambda arm: (arm != "student", -(arms[arm]["value"] or 0))):
        best.setdefault(kind_of(arm), arm)
    return [best[kind] for kind in KINDS if kind in best]


def _mark(arm: str, row: Mapping[str, Any], made: Mapping[str, Any]) -> Mark:
    label = f"{arm} ({made['nfe']:g} NFE)"
    return Mark(label=label, kind=kind_of(arm), value=row["value"], low=row["low"], high=row["high"])


def _anchors(arms: Mapping[str, Any], anchors: Sequence[Anchor]) -> str:
    rows = [
        [
            escape(anchor.row.system),
            anchor.row.steps,
            f"{anchor.row.value:g}",
            _number(arms.get(anchor.row.role, {}).get("value")),
            escape(f"{anchor.table.metric} · {anchor.table.source}"),
            _verdict(anchor.verdict),
        ]
        for anchor in anchors
    ]
    if not rows:
        return ""
    header = ["published system", "steps", "published", "ours", "what it is", "may they be compared?"]
    return "<h3>Beside published figures</h3>" + _table(header, rows, css="anchors")


def _verdict(text: str) -> str:
    word, colon, why = text.partition(":")
    return f"<b>{escape(word)}</b>{colon}{escape(why)}"


def _gallery(run: Run, pairs: Mapping[str, Sequence[Pair]]) -> Iterable[str]:
    yield '<h2>Pairs from one noise</h2><p class="soft">Teacher on the left, student on the right.</p>'
    for title, found in pairs.items():
        shown = "".join(_pair(run, pair) for pair in found)
        yield f'<h3>{escape(title)}</h3><div class="pairs">{shown}</div>'


def _pair(run: Run, pair: Pair) -> str:
    sides = []
    for side, picture in enumerate((pair.teacher, pair.student)):
        source = data_uri(run, picture)
        name = ("teacher", "student")[side]
        media = (
            f'<video src="{source}" autoplay muted loop playsinline></video>'
            if source.startswith("data:video")
            else f'<img src="{source}" alt="{name}">'
        )
        value = f" · {pair.values[side]:.3g}" if pair.values else ""
        sides.append(f"<figure style='margin:0'>{media}<figcaption>{name}{value}</figcaption></figure>")
    return (
        f'<div class="card"><div class="sides">{"".join(sides)}</div><p class="prompt">{escape(pair.prompt)}</p></div>'
    )


def _sampling(rows: Mapping[str, Any]) -> str:
    return _table(
        ["row", "steps", "guidance", "NFE (counted)", "seconds", "of these denoising"],
        [
            [_code(arm), row["steps"], f"{row['guidance_scale']:g}", f"{row['nfe']:g}", f"{row['seconds']:.3f}",
             f"{row['denoiser_seconds']:.3f}"]
            for arm, row in rows.items()
        ],
    )  # fmt: skip


def _card(title: str, content: str) -> str:
    return f'<section class="card"><h3>{escape(title)}</h3>{content}</section>'


def _table(header: Sequence[str], rows: Iterable[Sequence[object]], css: str = "") -> str:
    """Cells are HTML already; a column without any content is left out."""
    lines = [[str(cell) for cell in row] for row in rows]
    if not lines:
        return ""
    kept = [index for index in range(len(header)) if any(line[index] for line in lines)]
    head = "".join(f"<th>{escape(header[index])}</th>" for index in kept)
    attributes = {
        "may they be compared?": ' class="verdict"',
        "value [95 %]": ' class="value"',
        "[95 %]": ' class="value"',
        **{name: f' data-name="{name}"' for name in ("steps", "published", "ours")},
    }
    body = "".join(
        "<tr>" + "".join(f"<td{attributes.get(header[index], '')}>{line[index]}</td>" for index in kept) + "</tr>"
        for line in lines
    )
    return f'<div class="wide"><table class="{css}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _code(text: str) -> str:
    return f"<code>{_name(text)}</code>"


def _name(text: str) -> str:
    """Long names may break at their underscores."""
    return escape(text).replace("_", "_<wbr>")


def _figure(row: Mapping[str, Any]) -> str:
    return "" if row["value"] is None else f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
