"""Limits of a public study: trials come at a pace that people have, and an address cannot be made up."""

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.testclient import TestClient

from tdm_core.errors import TooManyRequestsError
from tdm_core.ui import limits
from tdm_core.ui.limits import Limiter, Limits, Rate, network_of
from tdm_core.ui.routes import COOKIE, PREFIX, routes
from tests.studies import a_service

OUTSIDE = {"x-forwarded-for": "8.8.8.8"}


def taken(limiter, key="k"):
    """How many there are at this moment."""
    for number in range(10_000):
        if limiter.wait(key):
            return number
        limiter.take(key)
    raise AssertionError("no limit")


def test_so_many_come_at_once_and_then_one_at_a_time(seconds):
    limiter = Limiter(Rate(count=5, seconds=10), clock=seconds)
    assert taken(limiter) == 5
    assert limiter.wait("k") == pytest.approx(2)
    seconds.now += 2
    assert taken(limiter) == 1
    seconds.now += 3600
    assert taken(limiter) == 5


def test_the_slowest_of_several_rates_holds(seconds):
    limiter = Limiter(Rate(count=3, seconds=3), Rate(count=5, seconds=3600), clock=seconds)
    assert taken(limiter) == 3
    seconds.now += 3
    assert taken(limiter) == 2
    assert limiter.wait("k") == pytest.approx(3600 / 5 - 3)


def test_keys_do_not_share_and_their_number_is_bounded(seconds, monkeypatch):
    monkeypatch.setattr(limits, "MOST_KEYS", 3)
    limiter = Limiter(Rate(count=1, seconds=60), clock=seconds)
    for key in "abcd":
        assert taken(limiter, key) == 1
    assert [bool(limiter.wait(key)) for key in "abcd"] == [False, True, True, True]


def test_a_refusal_says_when_to_go_on_and_takes_nothing(seconds):
    limiter = Limiter(Rate(count=1, seconds=90), clock=seconds)
    limiter.check("k", "Too much")
    for wait, spoken in [(0, "2 minutes"), (30, "1 minute"), (31, "59 s")]:
        seconds.now = 1000 + wait
        with pytest.raises(TooManyRequestsError, match=f"Too much: go on in {spoken}\\."):
            limiter.check("k", "Too much")
    seconds.now = 1090
    limiter.check("k", "Too much")


def asked_from(client, forwarded=""):
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    return Request({"type": "http", "client": (client, 1) if client else None, "headers": headers})


@pytest.mark.parametrize(
    ("client", "forwarded", "proxies", "network"),
    [
        ("8.8.8.8", "", 0, "8.8.8.8"),
        ("8.8.8.8", "1.1.1.1", 0, "8.8.8.8"),
        ("10.0.0.1", "1.1.1.1, 8.8.8.8", 1, "8.8.8.8"),
        ("10.0.0.1", "1.1.1.1, 8.8.8.8, 10.0.0.2", 2, "8.8.8.8"),
        ("10.0.0.1", "", 1, None),
        ("127.0.0.1", "", 0, None),
        ("192.168.0.7", "", 0, None),
        ("2001:4860:4860::8888", "", 0, "2001:4860:4860::/64"),
        ("10.0.0.1", "not an address", 1, None),
        ("testclient", "", 0, None),
        (None, "", 0, None),
    ],
)
def test_the_address_is_the_one_that_trusted_proxies_wrote(client, forwarded, proxies, network):
    assert network_of(asked_from(client, forwarded), proxies) == network


@pytest.fixture
def study(store, clock, seconds):
    service = a_service(store=store, clock=clock)
    app = Starlette(routes=routes(service, b"s" * 32, limits=Limits.usual(proxies=1, clock=seconds)))

    def browser(**headers):
        return TestClient(app, base_url="http://127.0.0.1", headers=headers)

    return browser


def ask(browser):
    return browser.post(f"{PREFIX}/next", json={})


def test_a_rater_who_asks_like_a_machine_is_told_to_wait_and_may_still_vote(study, seconds):
    browser = study()
    answers = [ask(browser) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [200] * 11  # the first one had no cookie to count by
    refused = ask(browser)
    assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (429, "slow_down", "1")
    trial = answers[-1].json()
    ballot = {"trial": trial["trial"], "choice": "tie"}
    assert browser.get(f"{PREFIX}/media/{trial['media']}").status_code == 200
    assert browser.post(f"{PREFIX}/vote", json=ballot).json()["code"] == "early"  # and not slow_down
    seconds.now += 1
    assert ask(browser).status_code == 200


def test_one_address_cannot_be_ever_new_raters(study):
    answers = [ask(study(**OUTSIDE)) for _ in range(61)]
    assert [answer.status_code for answer in answers] == [200] * 60 + [429]
    assert COOKIE not in answers[-1].cookies
    assert "Many requests come from your network: go on in 1 minute." in answers[-1].json()["error"]
    assert ask(study(**{"x-forwarded-for": "1.1.1.1"})).status_code == 200
    assert ask(study()).status_code == 200


def test_invitations_cannot_be_guessed_at_speed(study):
    browser = study(**OUTSIDE)
    ask(browser)
    guesses = [browser.post(f"{PREFIX}/invitation", json={"code": f"guess-{n}"}) for n in range(300)]
    assert {guess.json()["code"] for guess in guesses[:-1]} == {"invitation"}
    assert guesses[-1].json()["code"] == "slow_down"


def test_raters_of_one_network_are_flagged_for_a_look_and_not_excluded(store, clock, seconds):
    service, limits = a_service(store=store, clock=clock), Limits.usual(proxies=1, clock=seconds)
    app = Starlette(routes=routes(service, b"s" * 32, limits=limits))
    for address in ("8.8.8.8", "8.8.8.8", "8.8.8.8", "1.1.1.1", "1.1.1.1"):
        browser = TestClient(app, base_url="http://127.0.0.1", headers={"x-forwarded-for": address})
        for _ in range(2):  # the first time there is no rater yet
            trial = ask(browser).json()
        browser.get(f"{PREFIX}/media/{trial['media']}")
        clock.pass_ms(trial["min_view_ms"])
        assert browser.post(f"{PREFIX}/vote", json={"trial": trial["trial"], "choice": "tie"}).json()["accepted"]
    _, seen, _ = service.oversight(neighbours=limits.neighbours())
    assert [each.rules for each in seen.flagged] == [("same_network",)] * 3
    assert "same_network" not in seen.excluded
