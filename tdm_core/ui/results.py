"""The Results tab: what the votes of a closed study say, in plain words, plots, a table, and the pairs behind them."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from tdm_core.errors import StorageError, StudyError
from tdm_core.study.analysis import Interval, StudyReport
from tdm_core.study.gallery import Gallery, Judged
from tdm_core.ui import texts, viewer
from tdm_core.ui.plots import forest_plot, interval_plot, percent, strip_plot, votes_plot

Pick = Callable[[StudyReport], Gallery]
PAIRS = "gradio_api/study/pairs/"
_OWN = (Path(__file__).parent / "results.js").read_text(encoding="utf-8")
_SCRIPT = viewer.script("look.js") + _OWN


def results_tab(results: Callable[[], StudyReport], gallery: Pick, *, opened: gr.Tab) -> dict[str, Any]:
    """Build the tab; returns the event's arguments that bring it up to date."""
    show = gr.HTML(js_on_load=_SCRIPT, elem_id="tdm-results")
    refresh = {
        "fn": lambda: results_html(results, gallery),
        "inputs": None,
        "outputs": show,
        "queue": False,
        "api_visibility": "private",
        "show_progress": "hidden",
    }
    opened.select(**refresh)
    return refresh


def results_html(results: Callable[[], StudyReport], gallery: Pick = lambda report: Gallery()) -> str:
    try:
        report = results()
    except StorageError as error:
        return _empty("The votes cannot be read", str(error), icon="⚠️")
    except StudyError:
        return _empty(texts.RESULTS_OPEN, texts.RESULTS_OPEN_HINT, icon="🔒")
    share = report.share
    if share is None:
        return _empty(texts.RESULTS_EMPTY, "", icon="🗳️")
    interval = interval_plot(low=share.low, value=share.value, high=share.high)
    return f"""<article class="tdm-results">
      <h2>{_verdict(report)}</h2>
      <p class="tdm-lead">{_lead(report)}</p>
      <figure><figcaption>Share of the student, with its 95 % interval</figcaption>{interval}</figure>
      <figure><figcaption>How the votes fell</figcaption>{votes_plot(report)}</figure>
      <figure><figcaption>All votes, the clean ones, each question; dotted: still “not worse”</figcaption>
        {_forest(report)}</figure>
      <figure><figcaption>Share of the student per prompt</figcaption>{strip_plot(report.per_prompt)}</figure>
      {_table(report)}
      {_gallery(gallery(report))}
      <p class="tdm-small">{_caveat(report)}</p>
    </article>"""


def _gallery(chosen: Gallery) -> str:
    parts = [
        f"<h3>{escape(title)}</h3><div class='tdm-judged'>{''.join(map(_judged, judged))}</div>"
        for kind, title in texts.JUDGED_TITLES.items()
        if (judged := getattr(chosen, kind))
    ]
    return "".join([*parts, f"<p class='tdm-small'>{escape(texts.JUDGED_SIDES)}</p>"] if parts else [])


def _judged(judged: Judged) -> str:
    pair, words = judged.pair, texts.JUDGED_SHARE_ONE if judged.votes == 1 else texts.JUDGED_SHARE
    source, told = f"{PAIRS}{escape(pair.id, quote=True)}", escape(pair.prompt, quote=True)
    media = (
        f'<video src="{source}" aria-label="{told}" autoplay muted loop playsinline></video>'
        if pair.kind == "video"
        else f'<img src="{source}" alt="{told}" loading="lazy">'
    )
    share = escape(words.format(share=percent(judged.share), votes=judged.votes))
    facts = f'data-frames="{pair.frames}" data-fps="{pair.fps}"'
    return f"<section {facts}>{media}<p dir='auto'>{escape(pair.prompt)}</p><small>{share}</small></section>"


def _empty(title: str, text: str, *, icon: str) -> str:
    words = f"<h2>{escape(title)}</h2><p>{escape(text)}</p>"
    return f'<div class="tdm-empty"><span aria-hidden="true">{icon}</span>{words}</div>'


def _verdict(report: StudyReport) -> str:
    assert report.share
    if report.share.low > 0.5:
        return "The student was preferred"
    if report.share.high < 0.5:
        return "The teacher was preferred"
    return "No preference was shown"


def _lead(report: StudyReport) -> str:
    share = report.share
    assert share
    votes = "one vote" if report.votes == 1 else f"{report.votes} votes"
    return (
        f"Over {votes} the student’s share is <b>{percent(share.value)}</b>, where 50 % means that raters saw no "
        f"difference and a tie counts half. With this many votes the true share could lie anywhere from "
        f"{percent(share.low)} to {percent(share.high)}."
    )


def _forest(report: StudyReport) -> str:
    shares = {f"all {report.votes} votes": report.share, f"clean, {report.clean.votes} votes": report.clean.share}
    shares |= {name: result.share for name, result in report.criteria.items() if name != "overall"}
    rows: list[tuple[str, Interval, float | None]] = [
        (name, Interval(share.low, share.high), share.value) for name, share in shares.items() if share
    ]
    rows.insert(2, ("at any time, by rater", report.sequential.interval, None))  # an interval that has no estimate
    return forest_plot(rows, margin=report.non_inferiority.margin if report.non_inferiority else 0.0)


def _quality(report: StudyReport) -> list[tuple[str, str]]:
    """What the votes say about the raters, and whose were left out of the clean estimate."""
    rows = [("Raters, of those planned", f"{report.raters} of {report.target_raters}")]
    if report.non_inferiority:
        shown = "shown" if report.non_inferiority.is_shown else "not shown"
        bound = f"lower bound {percent(report.non_inferiority.low)}"
        rows.append((f"Not worse by more than {percent(report.non_inferiority.margin)}", f"{shown} ({bound})"))
    for name, count in (
        ("Broken pictures found", report.golds),
        ("Equal pictures called alike", report.identical),
        ("Repeated pairs answered alike", report.repeats),
    ):
        if count.trials:
            rows.append((name, f"{count.successes} of {count.trials}"))
    if report.agreement.nominal is not None:
        rows.append(("Agreement between raters (Krippendorff’s α)", f"{report.agreement.nominal:.2f}"))
    left_out = [f"{rule.replace('_', ' ')}: {count}" for rule, count in report.excluded.items() if count]
    rows.append(("Raters left out of the clean estimate", ", ".join(left_out) or "none"))
    if report.withdrawn:
        rows.append(("Raters who withdrew, in no figure", str(report.withdrawn)))
    return rows


def _caveat(report: StudyReport) -> str:
    alone = "There was a single rater, so this speaks about that rater alone. " if report.raters == 1 else ""
    return (
        f"{alone}The interval takes into account that votes of one rater, and votes on one prompt, resemble each "
        "other. “Both bad” counts half, like a tie, and is shown apart."
    )


def _table(report: StudyReport) -> str:
    sides = report.sides
    rows = [
        ("Votes, raters, prompts", f"{report.votes}, {report.raters}, {report.prompts}"),
        (
            "Votes for the left, for the right",
            f"{sides.left}, {sides.right} (p = {sides.p_value:.2f})",
        ),
        ("Student shown left, right", f"{sides.first_arm_left}, {sides.first_arm_right}"),
    ]
    if report.decisive_share is not None and report.decisive_interval is not None:
        low, high = report.decisive_interval
        wilson = f"{percent(report.decisive_share)} ({percent(low)} to {percent(high)}, Wilson)"
        rows.append(("Student’s share without ties", wilson))
    rows += _quality(report)
    body = "".join(f"<tr><th scope='row'>{name}</th><td>{value}</td></tr>" for name, value in rows)
    return f"<table>{body}</table>"
