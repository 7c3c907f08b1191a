"""A study that asks for a Hugging Face login: everybody counts once, and nobody is believed outside a Space."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub.constants
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tdm_core.errors import ConfigError, SilentHubError
from tdm_core.storage.accounts import made_at
from tdm_core.ui.login import SET_BY_A_SPACE, Accounts, check_login, subject
from tdm_core.ui.routes import COOKIE, PREFIX, routes
from tests.local_server import running
from tests.studies import a_service

ROOT = Path(__file__).parents[2]
SPACE = dict.fromkeys(SET_BY_A_SPACE, "set")


@pytest.fixture
def service(store, clock):
    return a_service(store=store, clock=clock, identity="hf")


class Session:
    """What Gradio's session middleware would put into each request."""

    def __init__(self, app, session):
        self.app, self.session = app, session

    async def __call__(self, scope, receive, send):
        await self.app({**scope, "session": self.session}, receive, send)


def a_browser(service, person=None, *, made_at=made_at, named=None, **more):
    known = {"sub": person} | ({"preferred_username": named} if named else {})
    session = {"oauth_info": {"userinfo": known, "expires_at": time.time() + 60} | more} if person else {}
    accounts = Accounts(made_at, least_days=service.rules.account_days)
    app = Session(Starlette(routes=routes(service, b"s" * 32, accounts=accounts)), session)
    return TestClient(app, base_url="https://space.test")


def post(browser, path, headers=None, **body):
    return browser.post(f"{PREFIX}/{path}", json=body, headers=headers)


def test_nobody_gets_a_trial_without_a_login(service, store):
    browser = a_browser(service)
    answer = post(browser, "next")
    assert (answer.status_code, answer.json()["state"]) == (200, "login")
    assert "set-cookie" not in answer.headers
    assert post(browser, "vote", trial="0" * 32, choice="left").json()["code"] == "unknown"
    with store.reading("demo") as records:
        assert records.trials() == []


def test_one_person_is_one_rater_in_every_browser(service, clock):
    first = post(a_browser(service, "anna"), "next").json()
    assert post(a_browser(service, "anna"), "next").json() == first
    assert post(a_browser(service, "ben"), "next").json()["trial"] != first["trial"]


def test_a_logged_in_person_votes(service, clock):
    browser = a_browser(service, "anna")
    trial = post(browser, "next").json()
    assert browser.get(f"{PREFIX}/media/{trial['media']}").status_code == 200
    clock.pass_ms(2000)
    assert post(browser, "vote", trial=trial["trial"], choice="left").json()["votes"] == 1
    assert post(a_browser(service, "ben"), "vote", trial=trial["trial"], choice="left").status_code == 404


def test_a_cookie_of_ours_counts_for_nothing_where_a_login_is_asked(service, store):
    cookie = TestClient(Starlette(routes=routes(a_service(), b"s" * 32)), base_url="https://space.test")
    post(cookie, "next")
    browser = a_browser(service)
    browser.cookies.set(COOKIE, cookie.cookies[COOKIE])
    assert post(browser, "next").json()["state"] == "login"


def test_an_expired_login_is_none(service):
    assert post(a_browser(service, "anna", expires_at=time.time() - 1), "next").json()["state"] == "login"


@pytest.mark.parametrize("known", [None, {}, {"userinfo": None}, {"userinfo": {"sub": ""}}, {"userinfo": {"sub": 7}}])
def test_half_a_session_is_no_login(known):
    assert subject(SimpleNamespace(scope={"session": {"oauth_info": known}})) is None


def test_an_account_made_for_the_occasion_does_not_vote(store, clock):
    service = a_service(store=store, clock=clock, identity="hf", account_days=30)
    days, asked = {"anna": 31.0, "ben": 29.9}, []

    def made_at(name):
        asked.append(name)
        return datetime.now(UTC) - timedelta(days=days[name])

    anna, ben = (a_browser(service, name, made_at=made_at, named=name) for name in days)
    assert post(anna, "next").json()["state"] == post(anna, "next").json()["state"] == "trial"
    assert asked == ["anna"]  # an old account does not grow young
    refused = post(ben, "next")
    assert (refused.status_code, refused.json()["code"]) == (409, "young")
    assert "30 days old; yours is 29" in refused.json()["error"]
    days["ben"] = 30.1
    assert post(ben, "next").json()["state"] == "trial"
    assert post(a_browser(service, "anna", made_at=made_at), "next").json()["code"] == "hub"  # no name, no age


@pytest.mark.parametrize(
    ("status", "told", "outcome"),
    [
        (200, {"user": "anna", "createdAt": "2023-05-06T07:08:09.000Z"}, datetime(2023, 5, 6, 7, 8, 9, tzinfo=UTC)),
        (200, {"user": "anna"}, SilentHubError),
        (404, {"error": "no such user"}, SilentHubError),
        (500, {}, SilentHubError),
    ],
)
def test_an_account_s_age_is_what_the_hub_says(monkeypatch, status, told, outcome):
    asked = []

    class Overview(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("Authorization")))
            body = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with running(ThreadingHTTPServer(("127.0.0.1", 0), Overview)) as hub:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{hub.server_port}")
        if outcome is SilentHubError:
            with pytest.raises(SilentHubError, match="did not say"):
                made_at("anna")
        else:
            assert made_at("anna") == outcome
    assert asked == [("/api/users/anna/overview", None)]
    with pytest.raises(SilentHubError, match="did not say"):
        made_at("anna")  # nobody answers any more


def test_the_account_is_not_stored_and_differs_between_studies(service, store, clock):
    post(a_browser(service, "anna-account"), "next")
    with store.reading("demo") as records:
        [trial] = records.trials()
    assert "anna" not in str(trial)
    assert trial.rater_id == service.rater_of("anna-account")
    assert a_service(clock=clock, identity="hf").rater_of("anna-account") != trial.rater_id


def test_a_page_elsewhere_cannot_act_in_a_visitors_name(service):
    browser = a_browser(service, "anna")
    for path in ("next", "withdraw", "consent", "close", "vote", "skip"):
        answer = post(browser, path, headers={"sec-fetch-site": "cross-site"})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request"), path
    assert post(browser, "next", headers={"sec-fetch-site": "same-origin"}).json()["state"] == "trial"


def test_a_login_is_believed_on_a_space_alone():
    check_login(SPACE)
    for name in SET_BY_A_SPACE:
        with pytest.raises(ConfigError, match=name) as error:
            check_login(SPACE | {name: ""})
        assert len(str(error.value).splitlines()) <= 2


def test_the_whole_login_through_gradio_and_a_provider():
    """In a process of its own: what Gradio leaves behind is none of ours, and would fail other tests."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.ui.gradio_login"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "before": "login",
        "asked": "the provider",
        "landed": "/",
        "after": "trial",
        "cookie": ["session"],
        "forged": "/login/huggingface",
        "stranger": "login",
    }
