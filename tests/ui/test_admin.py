"""The operator's page: shut without the token, blind with it, and what is unblinded is noted."""

from __future__ import annotations

import json

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tdm_core.ui import admin
from tdm_core.ui.admin import ADMIN, WRONG_TOKENS, Door, admin_routes
from tests.studies import ARMS, a_service, look_and_vote
from tests.ui.server import ADMIN_TOKEN

TOKEN = "correct-horse-battery"
DATA = [("GET", "overview"), ("POST", "pause"), ("POST", "resume"), ("POST", "unblind")]


@pytest.fixture
def service(store, clock):
    service = a_service(store=store, clock=clock)
    for _ in range(3):
        look_and_vote(service, clock, "r")
    return service


@pytest.fixture
def client(service, seconds):
    app = Starlette(routes=admin_routes(service, Door(TOKEN, proxies=1, clock=seconds)))
    return TestClient(app, base_url="http://127.0.0.1")


def ask(client, method, path, token=TOKEN, **body):
    headers = {"authorization": f"Bearer {token}"} if token else {}
    options = {"json": body} if method == "POST" else {}
    return client.request(method, f"{ADMIN}/{path}", headers=headers, **options)


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "x", TOKEN.upper()])
@pytest.mark.parametrize(("method", "path"), DATA)
def test_without_the_token_nothing_is_told_and_nothing_done(client, service, method, path, token):
    answer = ask(client, method, path, token)
    assert (answer.status_code, answer.json()["code"]) == (401, "token")
    assert service.oversight()[2] == []
    assert service.status().state == "open"


def test_tokens_are_compared_in_constant_time(client, monkeypatch):
    compared = []

    def compare(given, right):
        compared.append((given, right))
        return given == right

    monkeypatch.setattr(admin.hmac, "compare_digest", compare)
    assert ask(client, "GET", "overview").status_code == 200
    assert ask(client, "GET", "overview", "short").status_code == 401
    assert [right for _, right in compared] == [TOKEN.encode()] * 2


def test_guessing_shuts_out_the_address_that_guesses_and_nobody_else_and_not_for_ever(client, seconds):
    client.headers["x-forwarded-for"] = "203.0.113.1, 8.8.8.8"
    for _ in range(WRONG_TOKENS.count):
        assert ask(client, "GET", "overview", "guess").status_code == 401
    refused = ask(client, "GET", "overview")
    assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (429, "slow_down", "6")
    client.headers["x-forwarded-for"] = "8.8.8.8, 1.1.1.1"
    assert ask(client, "GET", "overview").status_code == 200
    client.headers["x-forwarded-for"] = "8.8.8.8"
    seconds.now += WRONG_TOKENS.seconds
    assert ask(client, "GET", "overview").status_code == 200


@pytest.mark.parametrize("header", ["Bearer", "Basic abc", f"bearer  {TOKEN}", "Bearer \xff\xfe", TOKEN])
def test_headers_of_another_form_open_nothing(client, header):
    answer = client.get(f"{ADMIN}/overview", headers={"authorization": header.encode("latin-1")})
    assert answer.status_code == 401


def test_the_overview_is_blind(client):
    answer = ask(client, "GET", "overview")
    seen = answer.json()
    assert (seen["state"], seen["votes"], seen["raters"]["begun"]) == ("open", 3, 1)
    assert not any(arm in answer.text for arm in (*ARMS, "share", "wins", "net_preference"))


def test_pausing_and_going_on_are_noted_with_their_reasons(client, service):
    assert ask(client, "POST", "pause", reason="broken screen").json()["state"] == "paused"
    assert service.status().state == "paused"
    seen = ask(client, "POST", "resume", reason="x" * 3000).json()
    assert seen["state"] == "open"
    assert [event["kind"] for event in seen["events"]] == ["paused", "resumed"]
    assert seen["events"][0]["detail"] == "broken screen"
    assert len(seen["events"][1]["detail"]) == admin.MAX_REASON


def test_unblinding_shows_the_arms_and_is_noted(client, service):
    report = ask(client, "POST", "unblind").json()
    assert set(report["wins"]) == set(ARMS)
    assert [kind for kind, *_ in service.oversight()[2]] == ["unblinded"]


@pytest.mark.parametrize("body", [b"[]", b"{", b"\xff", b"7", b"[" * 4000, b"x" * 5000])
def test_nonsense_is_refused(client, body):
    headers = {"authorization": f"Bearer {TOKEN}"}
    answer = client.post(f"{ADMIN}/pause", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


def test_without_a_token_in_the_settings_there_is_no_page(service):
    from tdm_core.ui.routes import routes

    client = TestClient(Starlette(routes=routes(service, b"s" * 32)), base_url="http://127.0.0.1")
    assert client.get(ADMIN).status_code == 404
    assert client.get(f"{ADMIN}/overview").status_code == 404


@pytest.fixture
def admin_page(studio, open_page):
    studio.control(pairs=12, rules={"visitors_may_close": False, "target": 12, "controls": {}})
    page = open_page(f"{studio.url}{ADMIN}")
    page.get_by_label("Token").fill(ADMIN_TOKEN)
    page.get_by_role("button", name="Enter").click()
    page.locator(".state", has_text="open").wait_for()
    return page


def test_an_operator_pauses_resumes_and_unblinds_in_a_browser(studio, admin_page):
    page = admin_page
    page.get_by_label("Reason").fill("<b>lunch</b>")
    page.get_by_role("button", name="Pause the study").click()
    page.locator(".state", has_text="paused").wait_for()
    assert studio.control()["status"]["state"] == "paused"
    assert "<b>lunch</b>" in page.locator(".events").text_content()
    page.get_by_role("button", name="Let it go on").click()
    page.locator(".state", has_text="open").wait_for()
    assert "student" not in page.locator("body").text_content().lower()
    page.get_by_role("button", name="Unblind").click()
    assert page.get_by_role("button", name="Stay blind").evaluate("button => button === document.activeElement")
    page.get_by_role("button", name="Show how the votes fell").click()
    page.get_by_text("student better").wait_for()
    page.locator(".events", has_text="unblinded").wait_for()


def test_the_token_stays_out_of_the_address_and_of_the_browsers_stores(admin_page):
    kept = admin_page.evaluate(
        "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])"
    )
    assert ADMIN_TOKEN not in kept
    assert ADMIN_TOKEN not in admin_page.content()
    assert json.loads(kept)[3].endswith(ADMIN)


def test_nothing_but_the_pages_own_script_runs(studio, open_page):
    page = open_page(f"{studio.url}{ADMIN}")
    assert "unsafe" not in page.request.get(page.url).headers["content-security-policy"]
    page.evaluate("""() => { const script = document.createElement('script');
      script.textContent = 'window.planted = 1'; window.report = [];
      document.addEventListener('securitypolicyviolation', (e) => window.report.push(e.violatedDirective)); }""")
    assert page.evaluate("window.planted") is None
