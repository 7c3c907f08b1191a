"""A double of the Hub on this machine that speaks its commit protocol."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN, REPOSITORY = "hf_secretsecret", "someone/student"


class Hub(BaseHTTPRequestHandler):
    """Repositories are made for who knows the token; every file travels inside the commit."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(self.path)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid username or password."})
        elif self.path == "/api/repos/create":
            self.server.repositories.append(json.loads(body)["name"])
            self._answer(200, {"url": f"{self.server.address}/{REPOSITORY}"})
        elif self.path == "/api/validate-yaml":
            self._answer(200, {"errors": [], "warnings": []})
        elif self.path == f"/api/models/{REPOSITORY}/preupload/main":
            files = [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            self._answer(200, {"files": files})
        elif self.path == f"/api/models/{REPOSITORY}/commit/main" and not self.server.refuses_commits:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self._answer(200, {"commitUrl": f"{self.server.address}/{REPOSITORY}/commit/abc", "commitOid": "abc"})
        else:
            self._answer(404, {"error": self.path})

    def _answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def serving() -> Iterator[ThreadingHTTPServer]:
    """The double at work; it keeps what it was asked, the repositories made and the files that came."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.address = f"http://127.0.0.1:{server.server_port}"
        server.asked, server.repositories, server.files, server.refuses_commits = [], [], {}, False
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
