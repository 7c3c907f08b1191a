import asyncio
import json
import re
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tdm_core.errors import StorageError
from tdm_core.generation.bank import Bank, build_bank
from tdm_core.generation.media import decode_mp4, decode_png
from tdm_core.generation.sample import Role, Sample
from tdm_core.storage import open_store
from tdm_core.study import Controls
from tdm_core.ui.routes import CHUNK_BYTES, COOKIE, PREFIX, routes
from tests.studies import ARMS, SIDE_BYTES, a_service

SECRET = b"s" * 32


@pytest.fixture
def service(store, clock):
    return a_service(store=store, clock=clock)


def a_browser(service, **options):
    return TestClient(Starlette(routes=routes(service, SECRET)), base_url="http://127.0.0.1", **options)


@pytest.fixture
def browser(service):
    return a_browser(service)


def post(browser, path, **body):
    return browser.post(f"{PREFIX}/{path}", json=body)


def look(browser, clock):
    """Take the next trial and its pictures as the page does."""
    trial = post(browser, "next").json()
    assert browser.get(f"{PREFIX}/media/{trial['media']}").status_code == 200
    clock.pass_ms(trial["min_view_ms"])
    return trial


def assert_refused(response, status, code):
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.json()["error"]
    assert len(response.json()["error"].splitlines()) <= 2


def test_status_counts_pairs_and_votes(browser):
    assert browser.get(f"{PREFIX}/status").json() == {
        "state": "open",
        "pairs": 40,
        "needed": 10,
        "target": 40,
        "votes": 0,
        "may_close": True,
        "kind": "image",
    }


def test_next_gives_a_trial_of_exactly_the_agreed_fields(browser):
    trial = post(browser, "next").json()
    assert trial.keys() == {
        *("state", "trial", "media", "prompt", "number", "total", "min_view_ms", "width", "height", "kind"),
        *("practice", "question", "criteria", "frames", "fps"),
    }
    assert (trial["state"], trial["number"], trial["total"], trial["kind"]) == ("trial", 1, 40, "image")


def test_next_says_that_pairs_are_still_made(clock):
    answer = post(a_browser(a_service(pairs=3, clock=clock)), "next").json()
    assert (answer["state"], answer["pairs"], answer["needed"]) == ("preparing", 3, 10)


def test_a_vote_after_a_look_counts_and_can_be_repeated(browser, clock):
    trial = look(browser, clock)
    for _ in range(2):
        assert post(browser, "vote", trial=trial["trial"], choice="left").json() == {"accepted": True, "votes": 1}
    assert post(browser, "next").json()["number"] == 2


def test_a_second_choice_is_refused(browser, clock):
    trial = look(browser, clock)
    post(browser, "vote", trial=trial["trial"], choice="left")
    assert_refused(post(browser, "vote", trial=trial["trial"], choice="right"), 409, "duplicate")
    assert browser.get(f"{PREFIX}/status").json()["votes"] == 1


def test_a_reload_gives_the_same_trial_and_the_same_picture(browser):
    first, second = (post(browser, "next").json() for _ in range(2))
    assert first == second
    pictures = {browser.get(f"{PREFIX}/media/{first['media']}").content for _ in range(2)}
    assert len(pictures) == 1


def test_a_vote_without_the_pictures_is_early(browser, clock):
    trial = post(browser, "next").json()
    clock.pass_ms(60_000)
    assert_refused(post(browser, "vote", trial=trial["trial"], choice="left"), 409, "early")


def test_a_vote_before_the_minimum_view_is_early(browser, clock):
    trial = look(browser, clock)
    clock.pass_ms(-1)
    assert_refused(post(browser, "vote", trial=trial["trial"], choice="left"), 409, "early")


def test_asking_for_the_head_of_the_pictures_is_not_seeing_them(browser, clock):
    trial = post(browser, "next").json()
    assert browser.head(f"{PREFIX}/media/{trial['media']}").status_code == 400
    clock.pass_ms(60_000)
    assert_refused(post(browser, "vote", trial=trial["trial"], choice="left"), 409, "early")


def test_asking_for_a_part_of_the_pictures_gives_the_whole(browser):
    trial = post(browser, "next").json()
    whole = browser.get(f"{PREFIX}/media/{trial['media']}")
    part = browser.get(f"{PREFIX}/media/{trial['media']}", headers={"range": "bytes=0-9"})
    assert (part.status_code, part.content) == (200, whole.content)


def test_an_expired_trial_is_gone(browser, clock, service):
    trial = look(browser, clock)
    clock.pass_ms(service.rules.trial_life_ms)
    assert_refused(post(browser, "vote", trial=trial["trial"], choice="left"), 410, "expired")
    assert_refused(browser.get(f"{PREFIX}/media/{trial['media']}"), 410, "expired")


@pytest.mark.parametrize("forged", ["0" * 32, "x", "../../secret", "é", "\x00", "1" * 3000])
def test_a_forged_trial_is_unknown(browser, forged):
    post(browser, "next")
    assert_refused(post(browser, "vote", trial=forged, choice="left"), 404, "unknown")


@pytest.mark.parametrize("forged", ["0" * 32, "x", "%00", "%ff", "A" * 32])
def test_a_forged_token_is_unknown(browser, forged):
    post(browser, "next")
    assert_refused(browser.get(f"{PREFIX}/media/{forged}"), 404, "unknown")


def test_trials_and_pictures_work_for_their_own_rater_alone(service, clock):
    browser, thief = a_browser(service), a_browser(service)
    post(thief, "next")
    trial = look(browser, clock)
    assert_refused(thief.get(f"{PREFIX}/media/{trial['media']}"), 404, "unknown")
    assert_refused(post(thief, "vote", trial=trial["trial"], choice="left"), 404, "unknown")


@pytest.mark.parametrize("cookie", ["", "x", "0" * 32, "0" * 32 + ".forged", "é"])
def test_a_forged_cookie_is_nobody(service, clock, cookie):
    browser = a_browser(service)
    trial = look(browser, clock)
    headers = {"cookie": f"{COOKIE}={cookie}".encode()}
    forger = a_browser(service)
    vote = forger.post(f"{PREFIX}/vote", json={"trial": trial["trial"], "choice": "left"}, headers=headers)
    assert_refused(vote, 404, "unknown")
    assert_refused(forger.get(f"{PREFIX}/media/{trial['media']}", headers=headers), 404, "unknown")
    assert_refused(forger.post(f"{PREFIX}/close", headers=headers), 404, "unknown")


def test_the_cookie_is_signed_and_out_of_the_pages_reach(service):
    cookie = post(a_browser(service), "next").headers["set-cookie"]
    assert re.match(rf"{COOKIE}=[0-9a-f]{{32}}\.[\w-]+; ", cookie)
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    safe = TestClient(Starlette(routes=routes(service, SECRET)), base_url="https://example.org")
    assert "Secure" in post(safe, "next").headers["set-cookie"]


def test_in_a_spaces_frame_the_cookie_is_for_this_page_inside_that_site_alone(service):
    app = Starlette(routes=routes(service, SECRET, embedded=True))
    cookie = post(TestClient(app, base_url="http://behind-a-proxy"), "next").headers["set-cookie"]
    assert {"HttpOnly", "SameSite=none", "Secure", "Partitioned", "Path=/"} <= set(cookie.split("; "))


def test_a_rater_stays_the_same_after_a_restart(browser, service):
    first = post(browser, "next").json()
    restarted = a_browser(service, cookies=dict(browser.cookies))
    again = post(restarted, "next")
    assert again.json() == first
    assert "set-cookie" not in again.headers


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"left",
        b"[]",
        b"{}",
        b'"trial"',
        b'{"trial": "x"}',
        b'{"trial": "x", "choice": "student"}',
        b'{"trial": "x", "choice": ["left"]}',
        b'{"trial": "x", "choice": null}',
        b'{"trial": "x", "choice": "left", "criteria": "quality"}',
        b'{"trial": "x", "choice": "left", "criteria": {"quality": "student"}}',
        b"\xff\xfe",
        b"[" * 4000,
    ],
)
def test_what_is_no_vote_is_a_bad_request(browser, body):
    post(browser, "next")
    response = browser.post(f"{PREFIX}/vote", content=body)
    assert_refused(response, 400, "bad_request")
    assert "both_bad" in response.json()["error"]


@pytest.mark.parametrize("path", ["vote", "next", "close"])
def test_a_body_too_long_is_refused(browser, path):
    post(browser, "next")
    assert_refused(browser.post(f"{PREFIX}/{path}", content=b" " * 5000), 400, "bad_request")


def test_results_are_hidden_until_the_visitor_ends_the_study(browser, clock):
    trial = look(browser, clock)
    post(browser, "vote", trial=trial["trial"], choice="tie")
    assert_refused(browser.get(f"{PREFIX}/results"), 409, "open")
    assert post(browser, "close").json()["state"] == "closed"
    report = browser.get(f"{PREFIX}/results").json()
    assert (report["votes"], report["ties"], report["arms"]) == (1, 1, ["student", "teacher"])
    assert report["share"]["value"] == 0.5


def test_a_study_of_somebody_else_is_not_ended_from_the_page(clock):
    service = a_service(clock=clock, visitors_may_close=False)
    browser = a_browser(service)
    post(browser, "next")
    assert_refused(post(browser, "close"), 409, "open")
    assert browser.get(f"{PREFIX}/status").json()["state"] == "open"
    service.close()
    assert browser.get(f"{PREFIX}/results").json()["votes"] == 0


def test_a_pair_is_told_apart_once_the_study_is_closed_and_not_before(browser, clock):
    post(browser, "vote", trial=look(browser, clock)["trial"], choice="left")
    assert_refused(browser.get(f"{PREFIX}/pairs/pair-3"), 409, "open")
    post(browser, "close")
    teacher, student = ((arm.encode() * SIDE_BYTES)[:SIDE_BYTES] for arm in ("teacher", "student"))
    assert browser.get(f"{PREFIX}/pairs/pair-3").content == teacher + student
    for unknown in ("pair-99", "%00", "x" * 2000):
        assert_refused(browser.get(f"{PREFIX}/pairs/{unknown}"), 404, "unknown")


def test_results_that_are_published_elsewhere_are_not_shown(clock):
    service = a_service(clock=clock, results="never")
    service.close()
    assert_refused(a_browser(service).get(f"{PREFIX}/results"), 409, "open")
    assert_refused(a_browser(service).get(f"{PREFIX}/pairs/pair-3"), 409, "open")


def test_a_skipped_pair_is_followed_by_another(browser, clock):
    trial = look(browser, clock)
    assert post(browser, "skip", trial=trial["trial"]).json() == {"skipped": True}
    assert_refused(post(browser, "vote", trial=trial["trial"], choice="left"), 410, "expired")
    assert post(browser, "next").json()["prompt"] != trial["prompt"]


def test_consent_comes_first_and_withdrawal_ends_it(clock):
    browser = a_browser(a_service(clock=clock, consent="We keep your votes."))
    assert browser.get(f"{PREFIX}/rules").json()["consent"] == "We keep your votes."
    assert post(browser, "next").json()["state"] == "consent"
    assert post(browser, "consent").json() == {"accepted": True}
    assert post(browser, "next").json()["state"] == "trial"
    assert post(browser, "withdraw").json() == {"withdrawn": True}
    assert post(browser, "next").json()["state"] == "withdrawn"


def test_an_invitation_opens_the_study_once(clock):
    service = a_service(clock=clock, identity="invite")
    [code] = service.invite(1)
    browser, thief = a_browser(service), a_browser(service)
    for visitor in (browser, thief):
        assert post(visitor, "next").json()["state"] == "invite"
    assert post(browser, "invitation", code=code).json() == {"accepted": True}
    assert_refused(post(thief, "invitation", code=code), 409, "invitation")
    assert post(browser, "next").json()["state"] == "trial"


def test_practice_alone_is_told_and_further_answers_are_kept(clock):
    service = a_service(clock=clock, trials_per_rater=8, controls=Controls(), criteria=("quality",))
    browser, told = a_browser(service), []
    for _ in range(8):
        trial = look(browser, clock)
        answer = post(browser, "vote", trial=trial["trial"], choice="left", criteria={"quality": "tie"}, confidence=1)
        assert answer.status_code == 200
        told.append((trial["practice"], "right" in answer.json()))
    assert told == [(True, True)] * 2 + [(False, False)] * 6


def test_a_closed_study_takes_no_vote(browser, clock):
    trial = look(browser, clock)
    post(browser, "close")
    assert_refused(post(browser, "vote", trial=trial["trial"], choice="tie"), 409, "closed")
    assert_refused(browser.get(f"{PREFIX}/media/{trial['media']}"), 409, "closed")
    assert post(browser, "next").json()["state"] == "closed"


def test_a_database_that_refuses_is_told_and_no_vote_is_acknowledged(browser, clock, service, monkeypatch):
    trial = look(browser, clock)

    def locked(*_, **__):
        raise StorageError("study.sqlite3: locked")

    monkeypatch.setattr(service, "cast_vote", locked)
    assert_refused(post(browser, "vote", trial=trial["trial"], choice="tie"), 503, "storage")


class Connection:
    """The server's end of a connection, whose client leaves after ``chunks`` pieces of the body."""

    def __init__(self, chunks: int) -> None:
        self.sent: list[bytes] = []
        self._left = asyncio.Event()
        self._chunks = chunks

    async def receive(self):
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        if len(self.sent) >= self._chunks:
            self._left.set()
        elif body := message.get("body"):
            self.sent.append(body)


@pytest.mark.parametrize(("chunks", "counts"), [(0, False), (1, False), (100, True)])
def test_pictures_count_as_sent_only_if_the_client_stayed_to_the_end(browser, store, chunks, counts):
    trial = post(browser, "next").json()
    cookie = f"{COOKIE}={browser.cookies[COOKIE]}".encode()
    path = f"{PREFIX}/media/{trial['media']}"
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [(b"cookie", cookie)]}
    connection = Connection(chunks)
    asyncio.run(browser.app(scope, connection.receive, connection.send))
    with store.reading("demo") as records:
        assert (records.trial(trial["trial"]).sent_at_ms is not None) == counts
    assert len(connection.sent) == min(chunks, -(-2 * SIDE_BYTES // CHUNK_BYTES))


# The whole way, on a real bank and a real database: nothing tells the sides apart.


def noisy_and_smooth(request):
    """A student whose pictures compress badly and a teacher whose pictures compress well."""
    pixels = np.random.default_rng(request.seed).integers(256, size=(128, 128, 3), dtype=np.uint8)
    if request.role is Role.TEACHER:
        pixels[:] = 128
    figures = {"steps": 4, "nfe": 4, "guidance_scale": 1.0, "seconds": 1.0, "denoiser_seconds": 1.0}
    yield Sample(media=pixels, kind="image", scheduler="Fake", noise_sha256=str(request.seed), **figures)


def lively_and_calm(request):
    """The same as videos of 5 frames."""
    for sample in noisy_and_smooth(request):
        yield replace(sample, media=np.stack([sample.media[32 * i :][:32, :32] for i in (0, 1, 2, 1, 0)]), kind="video")


@pytest.fixture(params=[noisy_and_smooth, lively_and_calm])
def whole_way(request, tmp_path, clock):
    bank = Bank(tmp_path / "bank", preset="mini")
    for _ in build_bank(tmp_path / "bank", preset="mini", prompts=["a cat"], sample=request.param, pairs=6):
        pass
    with closing(open_store(tmp_path)) as store:
        yield a_service(pairs=bank, store=store, clock=clock, needed=6, target=6), bank


def student_is_left(content):
    pixels = decode_png(content) if content.startswith(b"\x89PNG") else decode_mp4(content)[0]
    return pixels[:, : pixels.shape[1] // 2].std() > 1


def test_nothing_before_the_end_names_an_arm_a_seed_or_a_step(whole_way, clock):
    service, bank = whole_way
    browser, seen = a_browser(service), []
    browser.event_hooks["response"].append(lambda response: seen.append(response))
    for _ in range(6):
        trial = look(browser, clock)
        post(browser, "vote", trial=trial["trial"], choice="left")
        post(browser, "vote", trial=trial["trial"], choice="right")
        post(browser, "vote", trial="forged", choice="left")
        browser.get(f"{PREFIX}/media/forged")
        browser.get(f"{PREFIX}/status")
        browser.get(f"{PREFIX}/results")
    assert post(browser, "next").json()["state"] == "finished"
    secrets = {"student", "teacher", "mini", "fake", "steps", "nfe", "seed", "guidance", "tdm/", "scheduler", "arm"}
    secrets |= {str(pair.seed) for pair in bank.pairs()} | {pair.id for pair in bank.pairs()}
    assert len(seen) > 40
    for response in seen:
        is_picture = response.headers["content-type"] in ("image/png", "video/mp4")
        text = json.dumps([*response.headers.items(), str(response.url), "" if is_picture else response.text]).lower()
        assert not {secret for secret in secrets if secret in text}, text
        assert response.headers["cache-control"] == "no-store, no-transform"


def test_pictures_differ_between_the_sides_in_nothing_but_pixels(whole_way, clock):
    service, bank = whole_way
    answers = {False: set(), True: set()}
    browser = a_browser(service)
    for pair in bank.pairs():
        assert len(bank.packed(pair.id, *ARMS)) == len(bank.packed(pair.id, *ARMS[::-1]))
    for _ in range(6):
        trial = look(browser, clock)
        response = browser.get(f"{PREFIX}/media/{trial['media']}")
        told = dict(response.headers)
        assert int(told["content-length"]) == len(response.content)
        if trial["kind"] == "video":  # as long as its pair's others, which pictures of all pairs are
            told["content-length"] = ""
        answers[student_is_left(response.content)].add(tuple(told.items()))
        post(browser, "vote", trial=trial["trial"], choice="tie")
    assert answers[True] == answers[False]
    [headers] = answers[True]
    assert dict(headers).keys() == {
        *("content-length", "content-type", "cache-control", "x-content-type-options", "cross-origin-resource-policy")
    }


def test_choices_reach_the_report_as_the_arm_that_was_seen_there(whole_way, clock):
    service, _ = whole_way
    browser = a_browser(service)
    for _ in range(6):
        trial = look(browser, clock)
        picture = browser.get(f"{PREFIX}/media/{trial['media']}").content
        post(browser, "vote", trial=trial["trial"], choice="left" if student_is_left(picture) else "right")
    post(browser, "close")
    report = browser.get(f"{PREFIX}/results").json()
    assert report["wins"] == {"student": 6, "teacher": 0}
    assert report["sides"]["left"] == report["sides"]["first_arm_left"]
