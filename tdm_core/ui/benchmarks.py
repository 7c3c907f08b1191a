"""The Benchmarks tab: the published reports of the shipped models, the pairs behind their figures, the bars met or not.

Made when the tab is opened: a page that is opened for a picture does not carry two dozen others.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

import gradio as gr

from tdm_core.ui import texts, viewer
from tdm_core.ui.report import Pair, Plot, Report, Side, Table

KINDS = ("student", "teacher", "few", "equal")
BETTER = r"(\S+) \((\w+ is better)\)"
MEDIA = {".png": "image/png", ".mp4": "video/mp4"}
_SCRIPT = viewer.script("look.js") + (Path(__file__).parent / "benchmarks.js").read_text(encoding="utf-8")


def benchmarks_tab(reports: Sequence[Report], tables: Sequence[Table], *, opened: gr.Tab) -> None:
    """Reports in full; ``tables`` of single benchmarks below them, folded."""
    show = gr.HTML(js_on_load=_SCRIPT, elem_id="tdm-benchmarks")
    opened.select(
        lambda: benchmarks_html(reports, tables),
        None,
        show,
        queue=False,
        api_visibility="private",
        show_progress="hidden",
    )


def benchmarks_html(reports: Sequence[Report], tables: Sequence[Table]) -> str:
    if not reports and not tables:
        words = f"<h2>{escape(texts.NO_REPORTS)}</h2><p>{escape(texts.NO_REPORTS_HINT)}</p>"
        return f'<div class="tdm-empty"><span aria-hidden="true">📏</span>{words}</div>'
    parts = [*(_report(report) for report in reports)]
    if tables:
        parts.append(f"<h2>{escape(texts.BARS)}</h2><p>{escape(texts.BARS_HINT)}</p>")
        parts += [_folded(table) for table in tables]
    return f'<article class="tdm-benchmarks">{"".join(parts)}</article>'


def _report(report: Report) -> str:
    key = "".join(f'<li class="{kind}"><i></i>{escape(texts.ARM_KINDS[kind])}</li>' for kind in KINDS)
    first, *rest = report.tables
    found = [re.fullmatch(BETTER, table.title) for table in report.tables]
    better = {each[1]: each[2] for each in found if each}
    return "".join(
        [
            f"<h2>{escape(report.title)}</h2><p>{escape(report.lead)}</p><ul class='tdm-key'>{key}</ul>",
            f"<div class='tdm-plots'>{''.join(_plot(plot, better) for plot in report.plots)}</div>",
            _pairs(report),
            _table(first),
            *(_folded(table) for table in rest),
            f"<p class='tdm-small'>{escape(report.foot)}</p>",
        ]
    )


def _plot(plot: Plot, better: Mapping[str, str]) -> str:
    told = better.get(plot.title.split(" ")[0], "")
    note = f" <small>{escape(told)}</small>" if told else ""
    caption = f"<figcaption><span>{escape(_named(plot.title))}</span>{note}</figcaption>"
    return f"<figure>{caption}{_readable(plot.svg)}</figure>"


def _named(title: str) -> str:
    """A title begins with a metric's name as the command line has it."""
    return re.sub(r"^[\w-]+", lambda found: texts.METRICS.get(found[0], found[0]), title)


def _readable(svg: str) -> str:
    """Categories in words, and no tick of more than two figures."""
    svg = re.sub(r'(?<=class="name">)[^<]+', lambda found: texts.CATEGORIES.get(found[0], found[0]), svg)
    return re.sub(r">(0\.\d{3,})</text>", lambda found: f">{float(found[1]):.2g}</text>", svg)


def _pairs(report: Report) -> str:
    """Under each reason its pairs; a bit of why a number is what it is."""
    shown: dict[str, list[Pair]] = {}
    for pair in report.pairs:
        shown.setdefault(pair.title, []).append(pair)
    return "".join(
        f"<h3>{escape(texts.PAIR_TITLES.get(title, title))}</h3>"
        f"<div class='tdm-pairs'>{''.join(_pair(pair, report.folder) for pair in pairs)}</div>"
        for title, pairs in shown.items()
    )


def _pair(pair: Pair, folder: Path) -> str:
    sides = "".join(_side(side, folder, pair.prompt) for side in pair.sides)
    return f"<section><div>{sides}</div><p dir='auto'>{escape(pair.prompt)}</p></section>"


def _side(side: Side, folder: Path, prompt: str) -> str:
    path = folder / side.file
    source = f"data:{MEDIA[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
    name = {"teacher": texts.TEACHER, "student": texts.STUDENT}[side.role]
    told = escape(f"{name}: {prompt}", quote=True)
    media = (
        f'<video src="{source}" aria-label="{told}" autoplay muted loop playsinline></video>'
        if path.suffix == ".mp4"
        else f'<img src="{source}" alt="{told}">'
    )
    value = f" · {escape(texts.JUDGED.get(side.value, side.value))}" if side.value else ""
    return f"<figure data-role='{side.role}'>{media}<figcaption>{escape(name)}{value}</figcaption></figure>"


def _folded(table: Table) -> str:
    return f"<details><summary>{escape(_named(table.title))}</summary>{_cells(table)}</details>"


def _table(table: Table) -> str:
    return f"<h3>{escape(_named(table.title))}</h3>{_cells(table)}"


def _cells(table: Table) -> str:
    head = "".join(f"<th scope='col'>{escape(name)}</th>" for name in table.header)
    body = "".join(f"<tr><th scope='row'>{escape(row[0])}</th>{_row(row[1:])}</tr>" for row in table.rows)
    return f"<div class='tdm-wide'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _row(cells: Iterable[str]) -> str:
    return "".join(f"<td>{escape(cell)}</td>" for cell in cells)
