"""Votes as a chain: each row's hash covers the row and the hash before it, so that no change goes unnoticed.

The chain shows that a row was changed, dropped, added or moved; that the newest rows are gone, it shows only against
a head that was noted elsewhere: in the study's record, in a segment, in a publication.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from tdm_core.study.trials import Choice, Purpose, Trial, Vote

GENESIS = "0" * 64  # before the first row


@dataclass(frozen=True, kw_only=True)
class Link:
    """One row of the chain."""

    study_id: str
    number: int  # 1 for the study's first vote
    vote: Vote
    previous: str  # SHA-256 of the row before
    sha256: str

    def to_line(self) -> str:
        """One line of JSON without its end."""
        return _canonical(
            {
                "study": self.study_id,
                "number": self.number,
                "vote": facts(self.vote),
                "previous": self.previous,
                "sha256": self.sha256,
            }
        )

    @classmethod
    def from_line(cls, line: str) -> Link:
        """Raises `ValueError` if the line is not one that `to_line` could have written."""
        try:
            values = json.loads(line)
            return cls(
                study_id=values["study"],
                number=values["number"],
                vote=vote_of(values["vote"]),
                previous=values["previous"],
                sha256=values["sha256"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a row of votes: {error}") from None


def link(vote: Vote, *, study_id: str, number: int, previous: str) -> Link:
    return Link(
        study_id=study_id,
        number=number,
        vote=vote,
        previous=previous,
        sha256=_sha256(vote, study_id, number, previous),
    )


def problems(links: Iterable[Link], *, votes: int, head: str) -> Iterator[str]:
    """What is wrong with a study's chain, given how many votes it counts and the hash of the last; one line each."""
    previous, number = GENESIS, 0
    for each in links:
        number += 1
        if each.number != number:
            yield f"vote {number} is missing: vote {each.number} follows vote {number - 1}"
        if each.previous != previous:
            yield f"vote {each.number} does not follow the row before it: a row was dropped, added or moved"
        if each.sha256 != _sha256(each.vote, each.study_id, each.number, each.previous):
            yield f"vote {each.number} was changed after it was cast"
        previous, number = each.sha256, each.number
    if number != votes or previous != head:
        yield f"the study counted {votes} votes, and the chain ends with vote {number}: the newest rows do not match"


def facts(vote: Vote) -> dict[str, Any]:
    """The vote and its trial as plain values."""
    return asdict(vote)


def vote_of(values: Mapping[str, Any]) -> Vote:
    """The vote whose `facts` these are."""
    trial = dict(values["trial"])
    trial["purpose"] = Purpose(trial["purpose"])
    if trial.keys() != {field.name for field in fields(Trial)}:
        raise ValueError(f"not a trial's facts: {sorted(trial)}")
    return Vote(
        trial=Trial(**trial),
        choice=Choice(values["choice"]),
        cast_at_ms=values["cast_at_ms"],
        criteria={name: Choice(choice) for name, choice in values["criteria"].items()},
        confidence=values["confidence"],
    )


def _sha256(vote: Vote, study_id: str, number: int, previous: str) -> str:
    row = {"study": study_id, "number": number, "vote": facts(vote), "previous": previous}
    return hashlib.sha256(_canonical(row).encode("utf-8", "surrogatepass")).hexdigest()


def _canonical(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
