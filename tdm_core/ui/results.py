"""The Results tab: what the votes of a closed study say, in plain words, a plot and a table."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import gradio as gr

from tdm_core.errors import StorageError, StudyError
from tdm_core.study.analysis import StudyReport
from tdm_core.ui import texts
from tdm_core.ui.plots import interval_plot, percent, votes_plot


def results_tab(results: Callable[[], StudyReport], *, opened: gr.Tab) -> dict[str, Any]:
    """Build the tab; returns the event's arguments that bring it up to date."""
    show = gr.HTML(js_on_load=None, elem_id="tdm-results")
    refresh = {
        "fn": lambda: results_html(results),
        "inputs": None,
        "outputs": show,
        "queue": False,
        "api_visibility": "private",
        "show_progress": "hidden",
    }
    opened.select(**refresh)
    return refresh


def results_html(results: Callable[[], StudyReport]) -> str:
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
      {_table(report)}
      <p class="tdm-small">{_caveat(report)}</p>
    </article>"""


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
    body = "".join(f"<tr><th scope='row'>{name}</th><td>{value}</td></tr>" for name, value in rows)
    return f"<table>{body}</table>"
