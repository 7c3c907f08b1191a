"""Whatever arrives at the study's routes: never a failure of the server, never a counted vote, never an arm's name."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from tdm_core.study import Controls
from tdm_core.ui.routes import COOKIE, PREFIX, routes
from tests.studies import a_service
from tests.ui.asgi import Caller

EXAMPLES, REQUESTS = 210, 50  # together more than 10,000 requests
PATHS = (
    "status",
    "next",
    "media",
    "vote",
    "skip",
    "consent",
    "withdraw",
    "invitation",
    "rules",
    "pairs/pair-3",
    "close",
    "results",
)
SECRETS = ("student", "teacher", "spoiled", "pair-")

any_text = st.text(max_size=40) | st.sampled_from(["0" * 32, "../../secret", "%00", "' OR 1=1 --", "{{7*7}}", "\ud800"])
ids = st.sampled_from(["own trial", "own media", "foreign trial", "foreign media", "lapsed trial"]) | any_text
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=5,
)
ballots = st.fixed_dictionaries(
    {"trial": ids | any_json, "choice": st.sampled_from(["left", "right", "tie", "both_bad", "student"]) | any_json},
    optional={"criteria": any_json | st.just({"quality": "left"}), "confidence": any_json, "code": any_text},
)
bodies = (
    ballots
    | any_json.map(lambda value: ("raw", json.dumps(value).encode("utf-8", "replace")))
    | st.binary(max_size=60).map(lambda value: ("raw", value))
    | st.sampled_from([("raw", b" " * 5000), ("raw", b"[" * 4000), ("raw", b'{"trial": "\xff"}')])
)
requests = st.tuples(
    st.sampled_from(["POST", "GET", "GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS"]),
    st.sampled_from(PATHS) | any_text,
    ids,
    bodies,
    st.sampled_from(["own", "foreign", "none", "forged", "cut"]),
    st.sampled_from(
        [
            (),
            ((b"content-type", b"text/plain; charset=utf-16"),),
            ((b"range", b"bytes=0-1"),),
            ((b"x-forwarded-for", b"1.2.3.4"), (b"content-length", b"-1")),
        ]
    ),
)


WHOLE_BALLOT = {"trial": "lapsed trial", "choice": "left", "criteria": {"quality": "left"}}
TOO_LATE = ("POST", "vote", "", WHOLE_BALLOT, "own", ())  # chance seldom finds it


class Study:
    """A study with two raters, of whom one is attacked; its clock stands still, so no vote can be in time."""

    def __init__(self) -> None:
        self.service = a_service(
            trials_per_rater=8, controls=Controls(), criteria=("quality",), visitors_may_close=False, trial_life_ms=3000
        )
        self.app = Starlette(routes=routes(self.service, b"s" * 32))

    async def begin(self) -> None:
        self.own, self.foreign = Caller(self.app), Caller(self.app)
        lapsed = (await self.own.post(f"{PREFIX}/next")).json()
        self.service._clock.pass_ms(4000)
        own, foreign = [(await visitor.post(f"{PREFIX}/next")).json() for visitor in (self.own, self.foreign)]
        self.known = {
            "own trial": own["trial"],
            "own media": own["media"],
            "foreign trial": foreign["trial"],
            "foreign media": foreign["media"],
            "lapsed trial": lapsed["trial"],
        }

    async def send(self, method, path, identifier, body, cookie, headers):
        if isinstance(body, dict):
            named = {name: value for name, value in body.items() if isinstance(value, str)}
            known = {name: self.known.get(value, value) for name, value in named.items()}
            content = json.dumps(body | known).encode("utf-8", "replace")
        else:
            content = body[1]
        if path == "media":
            path = f"media/{self.known.get(identifier, identifier)}"
        cookies = {
            "own": self.own.cookie,
            "foreign": self.foreign.cookie,
            "none": "",
            "forged": f"{COOKIE}={'0' * 32}.forged",
            "cut": self.own.cookie[:-3],
        }
        visitor = Caller(self.app)
        return await visitor(method, f"{PREFIX}/{path}", content, headers=headers, cookie=cookies[cookie])


statuses: Counter[int] = Counter()


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # a failure is told by its one request; making the sequence shorter takes minutes
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(requests, min_size=REQUESTS, max_size=REQUESTS))
def attack(sequence):
    async def run():
        study = Study()
        await study.begin()
        for request in [TOO_LATE, *sequence]:
            answer = await study.send(*request)
            statuses[answer.status] += 1
            assert answer.status < 500, (request, answer.body)
            is_picture = ("content-type", "image/png") in answer.headers
            # A path or a choice that names an arm is not echoed either.
            told = str(answer.headers) + ("" if is_picture else answer.body.decode())
            assert not [secret for secret in SECRETS if secret in told], (request, told)
        assert study.service.status().votes == 0
        assert study.service.status().state == "open"

    asyncio.run(run())


def test_no_request_breaks_the_study_or_counts_or_tells():
    statuses.clear()
    attack()
    assert statuses.total() >= 10_000
    assert {200, 400, 404, 405, 409, 410} <= statuses.keys()  # the attack reached every kind of refusal
