"""A double of the Hub on this machine: datasets whose commits it keeps, and the faults that a test asks for."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from tests.local_server import running

TOKEN, REPOSITORY = "hf_secretsecret", "someone/votes"
API = f"/api/datasets/{REPOSITORY}"


class Hub(ThreadingHTTPServer):
    """What a fault does to the next commit: a status refuses it, "lost" makes it and drops the answer, "stall" neither
    makes nor answers it for ``stall_seconds``."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.exists, self.private = False, True
        self.commits: list[dict[str, bytes]] = []  # the files of each
        self.faults: list[int | str] = []
        self.stall_seconds = 0.5
        self.before_commit = lambda: None
        self.lock = threading.Lock()

    @property
    def head(self) -> str:
        return f"{len(self.commits):040x}"

    @property
    def files(self) -> dict[str, bytes]:
        return {name: content for commit in self.commits for name, content in commit.items()}


class _Requests(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urlsplit(self.path).path
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid username or password."})
        elif path == "/api/repos/create":
            asked = json.loads(body)
            assert asked["type"] == "dataset"
            self.server.exists, self.server.private = (
                True,
                asked.get("visibility") == "private" or asked.get("private", False),
            )
            self._answer(200, {"url": f"{self.server.address}/datasets/{REPOSITORY}"})
        elif path == f"{API}/preupload/main":
            files = [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            self._answer(200, {"files": files})
        elif path == f"{API}/commit/main":
            self._commit([json.loads(line) for line in body.splitlines()])
        else:
            self._answer(404, {"error": path})

    def _commit(self, lines: list[dict]) -> None:
        hub = self.server
        hub.before_commit()
        fault = hub.faults.pop(0) if hub.faults else None
        if fault == "stall":
            time.sleep(hub.stall_seconds)
            return
        if isinstance(fault, int):
            return self._answer(fault, {"error": "another commit operation is in progress"})
        with hub.lock:
            parent = next(line["value"].get("parentCommit") for line in lines if line["key"] == "header")
            if parent != hub.head:
                return self._answer(412, {"error": "the branch has moved on"})
            hub.commits.append(
                {
                    line["value"]["path"]: base64.b64decode(line["value"]["content"])
                    for line in lines
                    if line["key"] == "file"
                }
            )
        if fault == "lost":
            return None
        url = f"{hub.address}/datasets/{REPOSITORY}/commit/{hub.head}"
        return self._answer(200, {"commitUrl": url, "commitOid": hub.head})

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        resolve = f"/datasets/{REPOSITORY}/resolve/{self.server.head}/"
        if path == API and self.server.exists:
            siblings = [{"rfilename": name} for name in self.server.files]
            told = {"id": REPOSITORY, "sha": self.server.head, "private": self.server.private, "siblings": siblings}
            self._answer(200, told)
        elif path.startswith(resolve) and path.removeprefix(resolve) in self.server.files:
            content = self.server.files[path.removeprefix(resolve)]
            self._answer(200, content, ETag=f'"{hashlib.sha1(content).hexdigest()}"')
        else:
            self._answer(404, {"error": "Repository not found"}, **{"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def _answer(self, status: int, content: dict | bytes, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", self.server.head)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def serve() -> AbstractContextManager[Hub]:
    return running(Hub())
