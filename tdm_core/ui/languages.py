"""The page's languages: texts are English in the code, and each other language is a table from English to it.

The browser chooses (``?lang=zh``, a button in the header, its own language) and looks every text up, so that Gradio's
own words, templates and answers of the server need no second way.  A text with ``{names}`` is a pattern.
"""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

FOLDER = Path(__file__).parent
TABLES = {"zh": FOLDER / "zh.json"}
SPOKEN = ("aria-label", "title", "placeholder")


def table(language: str) -> dict[str, str]:
    """English -> that language."""
    return dict(json.loads(TABLES[language].read_text(encoding="utf-8")))


def script() -> str:
    """For the page's head: the translator with its table."""
    code = (FOLDER / "translate.js").read_text(encoding="utf-8")
    content = json.dumps(table("zh"), ensure_ascii=False).replace("</", "<\\/")
    return f"<script>{code.replace('/* table */ {}', content)}</script>"


def spoken_texts(html: str) -> list[str]:
    """What a template says: its text nodes and spoken attributes, as the translator looks them up."""
    reader = _Reader()
    reader.feed(re.sub(r"\$\{?([a-z_]+)\}?", r"{\1}", html))  # places of string.Template become places of the table
    return reader.found


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._skipped = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._skipped += tag in ("script", "style", "kbd", "code")
        self.found += [" ".join(value.split()) for name, value in attrs if name in SPOKEN and value]

    def handle_endtag(self, tag: str) -> None:
        self._skipped -= tag in ("script", "style", "kbd", "code")

    def handle_data(self, data: str) -> None:
        if not self._skipped and data.strip():
            self.found.append(" ".join(data.split()))
