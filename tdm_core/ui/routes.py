"""The blind study over HTTP: our own routes, because what travels through Gradio's events can be told apart.

A rater is whoever holds the signed cookie. A trial's pictures lie behind one opaque token that works for its own
rater alone, until the vote; they come as one body with the same few headers for every trial. The server notes a body
as sent only when its last byte has been handed over and the connection still stands.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from functools import partial
from typing import Any

from itsdangerous import BadSignature, Signer
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tdm_core.errors import (
    DuplicateVoteError,
    EarlyVoteError,
    ExpiredTrialError,
    InvitationError,
    RequestError,
    SilentHubError,
    StorageError,
    StudyClosedError,
    StudyOpenError,
    StudyPausedError,
    TDMError,
    TooManyRequestsError,
    UnknownTrialError,
    YoungAccountError,
)
from tdm_core.study.service import StudyService
from tdm_core.study.trials import Choice, Offer, is_id, new_id
from tdm_core.ui import login
from tdm_core.ui.limits import Limits

PREFIX = "/gradio_api/study"  # elsewhere Gradio's front proxy answers with its own page
COOKIE = "tdm_rater"
COOKIE_SECONDS = 180 * 24 * 3600
MAX_BODY_BYTES = 4096
CHUNK_BYTES = 32 * 1024
HEADERS = {"Cache-Control": "no-store, no-transform", "X-Content-Type-Options": "nosniff"}
ANSWERS: dict[type[TDMError], tuple[int, str]] = {
    RequestError: (400, "bad_request"),
    UnknownTrialError: (404, "unknown"),
    ExpiredTrialError: (410, "expired"),
    DuplicateVoteError: (409, "duplicate"),
    EarlyVoteError: (409, "early"),
    InvitationError: (409, "invitation"),
    YoungAccountError: (409, "young"),
    SilentHubError: (503, "hub"),
    StudyClosedError: (409, "closed"),
    StudyPausedError: (409, "paused"),
    StudyOpenError: (409, "open"),
    TooManyRequestsError: (429, "slow_down"),
    StorageError: (503, "storage"),
}

Endpoint = Callable[[Request], Awaitable[Response]]


def kind_of(content: bytes) -> str:
    """Of a packed pair; those of one study are all the same."""
    return "video/mp4" if content[4:8] == b"ftyp" else "image/png"


class FullBody(Response):
    """Both sides, calling ``when_sent`` once the last byte is handed over and the connection still stands.

    Starlette's own streaming may be cancelled by a client that closes right after the last byte, and says nothing
    of one that closed before.
    """

    def __init__(self, content: bytes, *, when_sent: Callable[[], None]) -> None:
        super().__init__(
            content, media_type=kind_of(content), headers=HEADERS | {"Cross-Origin-Resource-Policy": "same-origin"}
        )
        self._content, self._when_sent = content, when_sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for start in range(0, len(self._content), CHUNK_BYTES):  # each waits until the network has taken the last one
            chunk = self._content[start : start + CHUNK_BYTES]
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if not await Request(scope, receive).is_disconnected():
            await run_in_threadpool(self._when_sent)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def routes(
    service: StudyService,
    secret: bytes,
    *,
    subject: Callable[[Request], str | None] = login.subject,
    accounts: login.Accounts | None = None,
    limits: Limits | None = None,
    embedded: bool = False,
) -> list[Route]:
    """The study's routes; ``secret`` signs the raters' cookies and stays the same between starts.

    ``embedded`` says that the page stands in another site's frame, as on a Space, over HTTPS.

    Where the study asks for a login, a rater is whoever ``subject`` says, and there is no cookie of ours; ``accounts``
    knows which are old enough.
    """
    signer = Signer(secret, salt="tdm-rater")
    by_login = service.rules.identity == "hf"
    if service.rules.account_days and accounts is None:
        raise ValueError("the rules ask for an account's age, and nobody tells it")

    def rater_of(request: Request) -> str | None:
        if not by_login:
            return _rater(request, signer)
        person = subject(request)
        return service.rater_of(person) if person else None

    def known_rater(request: Request) -> str:
        rater = rater_of(request)
        if rater is None and by_login:
            raise UnknownTrialError("You are not logged in any more; log in and go on.")
        if rater is None:
            # A browser may refuse even a partitioned cookie in another site's frame; in a tab there is no frame.
            in_a_tab = f"open https://{request.url.netloc}/ in a tab of its own"
            way_out = in_a_tab if embedded else "allow cookies and reload the page"
            raise UnknownTrialError(f"Your browser sent no valid cookie of this study; {way_out}.")
        return rater

    async def status(request: Request) -> Response:
        return answer_json(asdict(await run_in_threadpool(service.status)))

    async def next_trial(request: Request) -> Response:
        await read_body(request)
        rater, is_new = (known, False) if (known := rater_of(request)) else (new_id(), True)
        if is_new and by_login:
            return answer_json(asdict(await run_in_threadpool(service.status)) | {"state": "login"})
        if accounts:
            await run_in_threadpool(accounts.check, request)
        if limits:
            if is_new:
                limits.newcomer(request)
            else:
                limits.trial(request, rater)
        answer = await run_in_threadpool(service.next_trial, rater)
        response = answer_json(({"state": "trial"} if isinstance(answer, Offer) else {}) | asdict(answer))
        if is_new:
            _give_cookie(response, request, signer.sign(rater).decode(), embedded=embedded)
        return response

    async def media(request: Request) -> Response:
        rater, token = known_rater(request), request.path_params["token"]
        if request.method != "GET":  # a HEAD would be noted as sent without a byte of the body
            raise RequestError("Pictures are fetched with GET.")
        content = await run_in_threadpool(service.media, rater, token)

        return FullBody(content, when_sent=partial(service.media_sent, rater, token))

    async def vote(request: Request) -> Response:
        rater, (trial, choice, answers) = known_rater(request), _ballot(await read_body(request))
        votes = await run_in_threadpool(partial(service.cast_vote, rater, trial, choice, **answers))
        told = await run_in_threadpool(service.practice_answer, rater, trial)
        return answer_json({"accepted": True, "votes": votes} | ({"right": told is choice} if told else {}))

    async def skip(request: Request) -> Response:
        rater, trial = known_rater(request), _text(await read_body(request), "trial")
        await run_in_threadpool(service.skip, rater, trial)
        return answer_json({"skipped": True})

    async def consent(request: Request) -> Response:
        await read_body(request)
        await run_in_threadpool(service.consent, known_rater(request))
        return answer_json({"accepted": True})

    async def withdraw(request: Request) -> Response:
        await read_body(request)
        await run_in_threadpool(service.withdraw, known_rater(request))
        return answer_json({"withdrawn": True})

    async def redeem(request: Request) -> Response:
        rater, code = known_rater(request), _text(await read_body(request), "code")
        if limits:
            limits.invitation(request)
        await run_in_threadpool(service.redeem, rater, code)
        return answer_json({"accepted": True})

    async def rules(request: Request) -> Response:
        return answer_json({"question": service.rules.question, "consent": service.rules.consent})

    async def close(request: Request) -> Response:
        known_rater(request)  # a page elsewhere can post here, but not with our cookie
        await read_body(request)
        return answer_json(asdict(await run_in_threadpool(partial(service.close, by_visitor=True))))

    async def results(request: Request) -> Response:
        return answer_json((await run_in_threadpool(partial(service.results, by_visitor=True))).to_json())

    async def revealed(request: Request) -> Response:
        content = await run_in_threadpool(service.revealed, request.path_params["pair"])
        return Response(content, media_type=kind_of(content), headers=HEADERS)

    return [
        Route(f"{PREFIX}/status", refusing(status), methods=["GET"]),
        Route(f"{PREFIX}/next", refusing(next_trial), methods=["POST"]),
        Route(f"{PREFIX}/media/{{token}}", refusing(media), methods=["GET"]),
        Route(f"{PREFIX}/vote", refusing(vote), methods=["POST"]),
        Route(f"{PREFIX}/skip", refusing(skip), methods=["POST"]),
        Route(f"{PREFIX}/consent", refusing(consent), methods=["POST"]),
        Route(f"{PREFIX}/withdraw", refusing(withdraw), methods=["POST"]),
        Route(f"{PREFIX}/invitation", refusing(redeem), methods=["POST"]),
        Route(f"{PREFIX}/rules", refusing(rules), methods=["GET"]),
        Route(f"{PREFIX}/close", refusing(close), methods=["POST"]),
        Route(f"{PREFIX}/results", refusing(results), methods=["GET"]),
        Route(f"{PREFIX}/pairs/{{pair}}", refusing(revealed), methods=["GET"]),
    ]


def refusing(endpoint: Endpoint) -> Endpoint:
    """The endpoint with the errors of the study turned into answers."""

    async def answer(request: Request) -> Response:
        try:
            if request.method == "POST" and request.headers.get("sec-fetch-site") == "cross-site":
                raise RequestError("Another site's page asked this; open the study's own page.")
            return await endpoint(request)
        except tuple(ANSWERS) as error:
            status, code = next(ANSWERS[kind] for kind in type(error).__mro__ if kind in ANSWERS)
            response = answer_json({"error": str(error), "code": code}, status=status)
            if isinstance(error, TooManyRequestsError):
                response.headers["Retry-After"] = str(math.ceil(error.seconds))
            return response

    return answer


def answer_json(values: dict[str, Any], status: int = 200) -> JSONResponse:
    return JSONResponse(values, status_code=status, headers=HEADERS)


def _rater(request: Request, signer: Signer) -> str | None:
    """Whoever the cookie names, if it is one of ours."""
    try:
        rater = signer.unsign(request.cookies.get(COOKIE, "")).decode()
    except (BadSignature, UnicodeError):
        return None
    return rater if is_id(rater) else None


def _give_cookie(response: Response, request: Request, value: str, *, embedded: bool) -> None:
    """In another site's frame a cookie must say so, and is then kept for this page inside that site alone (CHIPS)."""
    options: dict[str, Any] = {"max_age": COOKIE_SECONDS, "path": "/", "httponly": True}
    if not embedded:
        response.set_cookie(COOKIE, value, secure=request.url.scheme == "https", samesite="lax", **options)
        return
    response.set_cookie(COOKIE, value, secure=True, samesite="none", **options)
    response.headers["set-cookie"] += "; Partitioned"  # Starlette writes it from Python 3.14 on


async def read_body(request: Request) -> bytes:
    """The request's body.

    Raises:
        RequestError: if it is longer than `MAX_BODY_BYTES`; the rest is not read.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise RequestError(f"The request is longer than {MAX_BODY_BYTES} bytes.")
    return bytes(body)


def _ballot(body: bytes) -> tuple[str, Choice, dict[str, Any]]:
    try:
        values = json.loads(body)
        criteria = {str(name): Choice(choice) for name, choice in dict(values.get("criteria") or {}).items()}
        answers = {"criteria": criteria, "confidence": values.get("confidence")}
        return str(values["trial"]), Choice(values["choice"]), answers
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        choices = ", ".join(Choice)
        raise RequestError(f'A vote is JSON, {{"trial": id, "choice": one of {choices}}}.') from None


def _text(body: bytes, name: str) -> str:
    try:
        return str(json.loads(body)[name])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise RequestError(f'This is asked as JSON, {{"{name}": text}}.') from None
