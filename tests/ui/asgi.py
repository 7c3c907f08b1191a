"""A client that calls an application directly, thousands of times a second, and keeps all that a browser could see."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    seconds: float

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Caller:
    """One visitor: keeps the last cookie it was given, unless told which to send."""

    app: Any
    cookie: str = ""
    answers: list[Answer] = field(default_factory=list)

    async def __call__(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        headers: Iterable[tuple[bytes, bytes]] = (),
        cookie: str | None = None,
    ) -> Answer:
        sent = (self.cookie if cookie is None else cookie).encode("utf-8", "surrogateescape")
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode("utf-8", "surrogatepass"),
            "query_string": b"",
            "scheme": "http",
            "server": ("127.0.0.1", 80),
            "headers": [(b"host", b"127.0.0.1"), *([(b"cookie", sent)] if sent else []), *headers],
        }
        got: dict[str, Any] = {"body": b""}
        has_read = False

        async def receive() -> dict[str, Any]:
            nonlocal has_read
            if has_read:
                return await Never()
            has_read = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            got["body"] += message.get("body", b"")
            if message["type"] == "http.response.start":
                got.update(status=message["status"], headers=message["headers"])

        start = time.perf_counter()
        await self.app(scope, receive, send)
        seconds = time.perf_counter() - start
        headers_seen = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in got["headers"]]
        for name, value in headers_seen:
            if name == "set-cookie":
                self.cookie = value.partition(";")[0]
        answer = Answer(got["status"], headers_seen, got["body"], seconds)
        self.answers.append(answer)
        return answer

    async def post(self, path: str, **values: Any) -> Answer:
        return await self("POST", path, json.dumps(values).encode())


class Never:
    """A client that stays connected: nothing more comes from it."""

    def __await__(self) -> Any:
        import asyncio

        return asyncio.get_running_loop().create_future().__await__()
