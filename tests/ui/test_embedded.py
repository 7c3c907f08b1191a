"""The study in another site's frame, as on a Space: what a browser that keeps no cookie there is told to do."""

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tdm_core.ui.routes import COOKIE, PREFIX, routes
from tests.studies import a_service


@pytest.mark.parametrize(
    ("embedded", "told"),
    [(True, "open https://ada-study.hf.space/ in a tab of its own"), (False, "allow cookies and reload the page")],
)
def test_without_the_cookie_the_way_out_is_named(store, clock, embedded, told):
    study = routes(a_service(store=store, clock=clock), b"s" * 32, embedded=embedded)
    browser = TestClient(Starlette(routes=study), base_url="https://ada-study.hf.space")
    trial = browser.post(f"{PREFIX}/next").json()
    browser.cookies.clear()  # blocked: it does not come back
    answer = browser.get(f"{PREFIX}/media/{trial['media']}")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown")
    assert told in answer.json()["error"]
    assert len(answer.json()["error"].splitlines()) == 1


def test_in_a_tab_of_its_own_the_same_page_knows_its_rater(store, clock):
    """There the cookie is a first party's, partitioned or not."""
    study = routes(a_service(store=store, clock=clock), b"s" * 32, embedded=True)
    browser = TestClient(Starlette(routes=study), base_url="https://ada-study.hf.space")
    trial = browser.post(f"{PREFIX}/next").json()
    assert COOKIE in browser.cookies
    assert browser.get(f"{PREFIX}/media/{trial['media']}").status_code == 200
