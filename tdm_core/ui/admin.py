"""The operator's page: behind a token, and as blind as everybody else unless unblinding is asked for, which is noted.

A page of its own, without Gradio. It holds no secret: the token is typed in, kept in the page's memory, and sent with
every request; a request without it is told nothing but that it is missing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from tdm_core.errors import RequestError, TooManyRequestsError
from tdm_core.study.service import StudyService
from tdm_core.ui.limits import Limiter, Limits, Rate, network_of
from tdm_core.ui.routes import HEADERS, PREFIX, answer_json, read_body, refusing

ADMIN = f"{PREFIX}/admin"
HERE = Path(__file__).parent
WRONG_TOKENS = Rate(count=10, seconds=60)
MAX_REASON = 200
_STYLE = (HERE / "admin.css").read_text(encoding="utf-8")
_SCRIPT = (HERE / "admin.js").read_text(encoding="utf-8")
PAGE = (HERE / "admin.html").read_text(encoding="utf-8").replace("/* style */", _STYLE).replace("/* script */", _SCRIPT)


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


PAGE_HEADERS = HEADERS | {
    "Content-Security-Policy": (
        f"default-src 'none'; script-src {_source(_SCRIPT)}; style-src {_source(_STYLE)}; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}


class Door:
    """Lets the token in, compared in constant time, and slows down the address that guesses."""

    def __init__(self, token: str, *, proxies: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._token, self._proxies = token.encode(), proxies
        self._wrong = Limiter(WRONG_TOKENS, clock=clock)

    def refusal(self, request: Request) -> Response | None:
        """Raises `TooManyRequestsError` after many wrong tokens."""
        who = network_of(request, self._proxies) or "near"
        if wait := self._wrong.wait(who):
            raise TooManyRequestsError("Too many wrong tokens; wait a minute.", seconds=wait)
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.encode("utf-8", "replace"), self._token):
            return None
        if given:
            self._wrong.take(who)
        return answer_json({"error": "The token is missing or wrong.", "code": "token"}, status=401)


def admin_routes(service: StudyService, door: Door, limits: Limits | None = None) -> list[Route]:
    """The page, and what it asks for; ``limits`` knows who came from one network."""

    def guarded(endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            return door.refusal(request) or await endpoint(request)

        return refusing(answer)

    async def page(request: Request) -> Response:
        return HTMLResponse(PAGE, headers=PAGE_HEADERS)

    async def overview(request: Request) -> Response:
        return answer_json(await run_in_threadpool(_overview, service, limits))

    async def pause(request: Request) -> Response:
        await run_in_threadpool(service.hold_up, _reason(await read_body(request)))
        return answer_json(await run_in_threadpool(_overview, service, limits))

    async def resume(request: Request) -> Response:
        await run_in_threadpool(service.go_on, _reason(await read_body(request)))
        return answer_json(await run_in_threadpool(_overview, service, limits))

    async def unblind(request: Request) -> Response:
        await read_body(request)
        report = await run_in_threadpool(service.unblind)
        return answer_json(report.to_json())

    return [
        Route(ADMIN, page, methods=["GET"]),
        Route(f"{ADMIN}/overview", guarded(overview), methods=["GET"]),
        Route(f"{ADMIN}/pause", guarded(pause), methods=["POST"]),
        Route(f"{ADMIN}/resume", guarded(resume), methods=["POST"]),
        Route(f"{ADMIN}/unblind", guarded(unblind), methods=["POST"]),
    ]


def _overview(service: StudyService, limits: Limits | None) -> dict[str, Any]:
    status, seen, events = service.oversight(neighbours=limits.neighbours() if limits else ())
    rules = service.rules
    return {
        "question": rules.question,
        "state": status.state,
        "pairs": status.pairs,
        "target_pairs": status.target,
        "votes": status.votes,
        "target_raters": rules.target_raters,
        "rules_sha256": rules.sha256,
        "events": [{"kind": kind, "at_ms": at_ms, "detail": detail} for kind, at_ms, detail in events[-50:]],
        **seen.to_json(),
    }


def _reason(body: bytes) -> str:
    try:
        return str(json.loads(body or b"{}").get("reason", ""))[:MAX_REASON].encode("utf-8", "replace").decode()
    except (ValueError, AttributeError, RecursionError):
        raise RequestError('This is asked as JSON, {"reason": text}.') from None
