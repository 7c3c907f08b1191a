"""Publishing, against a double of the Hub on this machine that speaks its commit protocol."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tdm_core.errors import TrainingError
from tdm_core.training.push import open_repository, push

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
        elif self.path == f"/api/models/{REPOSITORY}/commit/main":
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


@pytest.fixture
def hub():
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.address = f"http://127.0.0.1:{server.server_port}"
        server.asked, server.repositories, server.files = [], [], {}
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "README.md").write_text("---\nlibrary_name: diffusers\n---\n# A student\n")
    (tmp_path / "pytorch_lora_weights.safetensors").write_bytes(bytes(range(256)) * 20)
    return tmp_path


def test_the_exported_folder_arrives_whole(hub, folder):
    open_repository(REPOSITORY, endpoint=hub.address, token=TOKEN)
    address = push(folder, REPOSITORY, endpoint=hub.address, token=TOKEN)
    assert hub.repositories == ["student"]
    assert hub.files == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert address.endswith("/commit/abc")


def test_a_refused_token_is_told_before_the_training_and_never_shown(hub):
    with pytest.raises(TrainingError, match=r"--push someone/student: .*401.*\n.*hf auth login") as error:
        open_repository(REPOSITORY, endpoint=hub.address, token="hf_wrongwrong")
    assert "hf_wrong" not in str(error.value) and len(str(error.value).splitlines()) == 2


def test_an_unreachable_hub_is_told_and_the_folder_stays(hub, folder):
    hub.shutdown()
    hub.server_close()
    with pytest.raises(TrainingError, match=r"--push someone/student: .*\n.*can be pushed later"):
        push(folder, REPOSITORY, endpoint=hub.address, token=TOKEN)
    assert len(list(folder.iterdir())) == 2


def test_an_impossible_name_is_told(hub):
    with pytest.raises(TrainingError, match=r"--push a/b/c: .*\nCheck its name"):
        open_repository("a/b/c", endpoint=hub.address, token=TOKEN)
