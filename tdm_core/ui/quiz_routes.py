"""The quiz over HTTP. It takes no vote and stores nothing, so nobody has to be known."""

from __future__ import annotations

import json
from dataclasses import asdict

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tdm_core.errors import RequestError
from tdm_core.study.quiz import Quiz
from tdm_core.ui.routes import HEADERS, answer_json, read_body, refusing

PREFIX = "/gradio_api/quiz"


def quiz_routes(quiz: Quiz) -> list[Route]:
    async def status(request: Request) -> Response:
        return answer_json(await run_in_threadpool(quiz.status))

    async def media(request: Request) -> Response:
        content = await run_in_threadpool(quiz.media, request.path_params["number"])
        return Response(content, media_type="image/png", headers=HEADERS)

    async def answers(request: Request) -> Response:
        try:
            choices = list(json.loads(await read_body(request))["choices"])
            graded = await run_in_threadpool(quiz.grade, choices)
        except (ValueError, KeyError, TypeError, RecursionError):
            raise RequestError('Answers are JSON, {"choices": ["top", "bottom", ...]}.') from None
        return answer_json({"answers": [asdict(each) for each in graded]})

    return [
        Route(PREFIX, refusing(status), methods=["GET"]),
        Route(f"{PREFIX}/media/{{number:int}}", refusing(media), methods=["GET"]),
        Route(f"{PREFIX}/answers", refusing(answers), methods=["POST"]),
    ]
