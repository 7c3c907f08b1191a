"""What a visitor without JavaScript sees, where Gradio's page would stay blank.

A middleware, because nothing that Gradio is launched with gets into the page as it is served: a script adds even what
it calls ``head``.
"""

from __future__ import annotations

from html import escape

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tdm_core.ui import languages, texts

_STYLE = (
    "position:fixed;inset:0;display:grid;place-content:center;gap:24px;padding:24px;overflow:auto;"
    "font:17px/1.6 system-ui,sans-serif;text-align:center;text-wrap:balance"
)
_END = b"</body>"


def note() -> bytes:
    """In every language, as none can be chosen; the colours are those that the page begins with, light or dark."""
    tables: dict[str, dict[str, str]] = {"en": {}} | {name: languages.table(name) for name in languages.TABLES}
    words = [
        f'<p lang="{name}" style="max-width:34em;margin:0"><b>{escape(table.get(texts.NO_SCRIPT, texts.NO_SCRIPT))}</b>'
        f"<br>{escape(table.get(texts.NO_SCRIPT_HINT, texts.NO_SCRIPT_HINT))}</p>"
        for name, table in tables.items()
    ]
    return f'<noscript><div style="{_STYLE}">{"".join(words)}</div></noscript>'.encode()


class TellWithoutScript:
    """Adds `note` to the page at ``/``; everything else passes as it is."""

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._note = app, note()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/":
            return await self._app(scope, receive, send)
        start: Message | None = None

        async def told(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message  # its length is known with its body
                return
            if start is not None:
                head, end, tail = message.get("body", b"").rpartition(_END)
                message = {**message, "body": head + self._note + end + tail if end else tail}
                if end:
                    headers = MutableHeaders(scope=start)
                    headers["content-length"] = str(int(headers["content-length"]) + len(self._note))
                await send(start)
                start = None
            await send(message)

        await self._app(scope, receive, told)
