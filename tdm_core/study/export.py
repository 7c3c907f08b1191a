"""A closed study as files for others: each vote once, without anything that leads to a person, and a data card."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tdm_core.study.analysis import StudyReport
from tdm_core.study.exclusions import excluded_raters, without
from tdm_core.study.rules import StudyRules
from tdm_core.study.trials import Vote

FIELDS = (
    *("number", "rater", "position", "purpose", "prompt", "category", "pair", "left", "right"),
    *("choice", "preferred", "confidence", "seconds", "excluded_by"),
)


def export_files(
    votes: Sequence[Vote], *, rules: StudyRules, report: StudyReport, withdrawn: Collection[str] = ()
) -> dict[str, bytes]:
    """File name -> content: ``votes.csv``, ``votes.jsonl``, ``rules.json``, ``report.json`` and ``README.md``."""
    rows = vote_rows(votes, rules=rules, withdrawn=withdrawn)
    return {
        "votes.csv": _csv(rows, rules),
        "votes.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode(),
        "rules.json": rules.to_json().encode() + b"\n",
        "report.json": json.dumps(report.to_json(), indent=1, ensure_ascii=False).encode() + b"\n",
        "README.md": data_card(rules, report).encode(),
    }


def vote_rows(votes: Sequence[Vote], *, rules: StudyRules, withdrawn: Collection[str] = ()) -> list[dict[str, Any]]:
    """One row a vote, oldest first. Raters are numbered as they come, so that no row leads to a cookie."""
    kept = without(votes, withdrawn)
    excluded = excluded_raters(kept, rules.clean)
    category_of = {prompt: category for category, prompts in rules.prompts.items() for prompt in prompts}
    raters: dict[str, int] = {}
    rows = []
    for number, vote in enumerate(kept, 1):
        trial = vote.trial
        rules_broken = [rule for rule, found in excluded.items() if trial.rater_id in found]
        rows.append(
            {
                "number": number,
                "rater": raters.setdefault(trial.rater_id, len(raters) + 1),
                "position": trial.position,
                "purpose": trial.purpose.value,
                "prompt": trial.prompt,
                "category": category_of.get(trial.prompt, ""),
                "pair": trial.pair_id,
                "left": trial.left_arm,
                "right": trial.right_arm,
                "choice": vote.choice.value,
                "preferred": vote.preferred,
                "confidence": vote.confidence,
                "seconds": None if trial.sent_at_ms is None else (vote.cast_at_ms - trial.sent_at_ms) / 1000,
                "excluded_by": rules_broken,
            }
            | {name: vote.criteria[name].value if name in vote.criteria else None for name in rules.criteria}
        )
    return rows


def data_card(rules: StudyRules, report: StudyReport) -> str:
    """What the files hold, how they came about, what they say; Markdown."""
    share = report.share
    headline = f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]" if share else "no votes"
    clean = report.clean.share
    excluded = ", ".join(f"{rule} {count}" for rule, count in report.excluded.items())
    return f"""# {rules.title}

Blind votes on pairs of pictures: *{rules.question}* Arms: `{rules.arms[0]}` and `{rules.arms[1]}`.

| figure | value |
| --- | --- |
| votes, raters, prompts | {report.votes}, {report.raters}, {report.prompts} |
| {rules.arms[0]} better, {rules.arms[1]} better, ties, both bad | {report.wins[rules.arms[0]]}, \
{report.wins[rules.arms[1]]}, {report.ties}, {report.both_bad} |
| share of {rules.arms[0]}, two-way clustered interval | {headline} |
| the same without excluded raters | {f"{clean.value:.3f} [{clean.low:.3f}, {clean.high:.3f}]" if clean else "none"} |
| raters excluded by rule | {excluded} |
| withdrawn raters, in no file | {report.withdrawn} |
| rules (SHA-256 of `rules.json` without its end of line) | `{rules.sha256}` |
| methodology | {report.methodology} |

`votes.csv` and `votes.jsonl` hold one row a vote, all kinds of trials; only those with `purpose` real count towards \
the share. `excluded_by` names the rules that leave a rater out of the clean estimate. `seconds` run on the server \
from the last byte of the pictures to the vote. Raters are numbered; nothing here leads to a person.

Columns: {", ".join(f"`{name}`" for name in (*FIELDS, *rules.criteria))}.
"""


def _csv(rows: Sequence[Mapping[str, Any]], rules: StudyRules) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, [*FIELDS, *rules.criteria], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({**row, "excluded_by": " ".join(row["excluded_by"]), "prompt": _harmless(row["prompt"])})
    return text.getvalue().encode()


def _harmless(prompt: str) -> str:
    """Spreadsheets run a cell that begins like a formula; an apostrophe makes it text."""
    return f"'{prompt}" if prompt[:1] in ("=", "+", "-", "@") else prompt
