"""Docker without a daemon: its files parse, and their command chain runs by hand on what an image would hold."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tdm_core.settings import Settings
from tests.needs import need

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 180  # for a machine that is busy with something else


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's lines, continued ones joined, comments left out."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [tuple(line.split(maxsplit=1)) for line in lines]  # type: ignore[misc]


def given(name: str) -> list[str]:
    return [rest for instruction, rest in instructions() if instruction == name]


@pytest.fixture
def image(tmp_path):
    """What the image's folder would hold."""
    folder = tmp_path / "app"
    folder.mkdir()
    for copied in given("COPY"):
        *sources, target = copied.split()
        for source in sources:
            need((ROOT / source).exists(), f"the Dockerfile copies {source}, which is not here")
            place = folder / target / source if target == "./" else folder / target
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, place)
    return folder


def test_the_image_is_not_root_has_a_volume_and_a_health_check():
    names = [name for name, _ in instructions()]
    assert names[0] == "FROM" and names.index("USER") < names.index("CMD")
    assert given("USER") == ["app"] and "useradd --uid 1000" in given("RUN")[0]
    assert given("VOLUME") == ["/data"] and given("HEALTHCHECK")[0].endswith('CMD ["python", "-m", "hosting.health"]')
    assert not any("ADD" == name for name in names)
    python = given("FROM")[0].removeprefix("python:").partition("-")[0]
    assert python == re.search(r'python_version: "([\d.]+)"', (ROOT / "README.md").read_text(encoding="utf-8")).group(1)


def test_what_is_copied_is_sent_to_the_daemon_and_nothing_private():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {line[1:] for line in ignored if line.startswith("!")}
    copied = {source for line in given("COPY") for source in line.split()[:-1]}
    assert "*" in ignored and copied == sent
    assert not sent & {"data", "runs", ".git", ".env", ".venv"}


def test_compose_waits_for_a_healthy_database_and_asks_for_its_password():
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    app, database = compose["services"]["app"], compose["services"]["database"]
    assert app["depends_on"]["database"]["condition"] == "service_healthy" and "healthcheck" in database
    assert app["read_only"] and app["cap_drop"] == ["ALL"] and app["stop_grace_period"] == "60s"
    assert app["volumes"] == ["data:/data"] and set(compose["volumes"]) == {"data", "votes"}
    secret = "${POSTGRES_PASSWORD:?set a password}"
    assert database["environment"]["POSTGRES_PASSWORD"] == secret and secret in app["environment"]["TDM_DATABASE_URL"]
    assert "ports" not in database


def test_compose_hands_on_what_an_operator_sets_and_only_what_something_reads():
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    app = compose["services"]["app"]
    arguments, handed_on = app["build"]["args"], app["environment"]
    for name in ("TDM_ADMIN_TOKEN", "TDM_SECRET", "TDM_PROXIES"):
        assert handed_on[name] == f"${{{name}:-}}"  # empty where the operator's own environment has none: unset
    assert arguments == {"TORCH_INDEX": "${TORCH_INDEX:-}"} and "TORCH_INDEX=" in given("ARG")
    given_nothing = {name: re.sub(r"\$\{\w+:-(.*?)\}", r"\1", str(value)) for name, value in handed_on.items()}
    settings = Settings.from_env(given_nothing)  # refuses what it does not know
    assert (settings.study, settings.admin_token, settings.secret, settings.proxies) == ("demo", None, None, 0)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    asked = set(re.findall(r"\$\{(\w+):", (ROOT / "compose.yaml").read_text(encoding="utf-8")))
    assert {name for name in asked - {"PORT"} if name not in readme} == set()


def test_the_command_chain_runs_on_postgresql_is_healthy_and_stops_gracefully(image, tmp_path, tiny_system, postgresql):
    """Everything but the container: its files, environment, command, health check and stop signal."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = shlex.split(" ".join(given("ENV")))
    environment = dict(word.split("=", 1) for word in words)
    assert environment["TDM_DATA_DIR"] == "/data" and environment["GRADIO_SERVER_PORT"] == "7860"
    (tmp_path / "presets").mkdir()
    shutil.copy(tiny_system / "presets" / "tiny.toml", tmp_path / "presets" / "mini-sd3.toml")
    environment |= {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "data"),
        "TDM_DATA_DIR": str(tmp_path / "data"),
        "TDM_DATABASE_URL": postgresql.database(),
        "TDM_PRESETS": str(tmp_path / "presets"),
        "TDM_THREADS": "1",
        "GRADIO_SERVER_PORT": str(port),
    }
    command = [sys.executable if word == "python" else word for word in json.loads(given("CMD")[0])]
    health = [sys.executable, *json.loads(given("HEALTHCHECK")[0].partition("CMD ")[2])[1:]]
    log = tmp_path / "log"

    def healthy() -> subprocess.CompletedProcess[str]:
        return subprocess.run(health, cwd=image, env=environment, capture_output=True, text=True, check=False)

    assert healthy().returncode == 1 and "not healthy" in healthy().stderr  # nothing runs yet
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=image, env=environment, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (told := healthy()).returncode:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(1)
        assert "the study is" in told.stdout
        process.send_signal(getattr(signal, given("STOPSIGNAL")[0]))
        assert process.wait(PATIENCE_SECONDS) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in log.read_text()
    assert (tmp_path / "data" / "studies" / "demo" / "segments" / "study.json").is_file()
    assert not (tmp_path / "data" / "study.sqlite3").exists()
    assert not list(image.rglob("__pycache__"))  # the code was not written to
