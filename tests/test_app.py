"""The composition root: ``python app.py`` on a tiny random system, and every published system's twin in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.error import HTTPError

import numpy as np
import pytest
from gradio_client import Client

from tdm_core.generation.media import decode_mp4, decode_png
from tests import twins
from tests.published import FRAMES, SIDE_PX, SYSTEMS
from tests.running_app import PATIENCE_SECONDS, ROOT, App

READ = {".png": decode_png, ".mp4": decode_mp4}


@pytest.fixture
def app(tmp_path: Path, tiny_system: Path) -> Iterator[App]:
    presets = tmp_path / "presets"
    presets.mkdir()
    shutil.copy(tiny_system / "presets" / "tiny.toml", presets / "mini-sd3.toml")
    (presets / "bad.toml").write_text('colour = "red"\n')  # one typo must not take the page away
    started = App(tmp_path / "data", presets)
    yield started
    started.process.kill()
    started.process.wait()


def test_the_app_serves_makes_pairs_keeps_its_files_together_and_ends_when_told(app: App) -> None:
    before = set(ROOT.iterdir())
    app.wait_for(lambda: b"Few-step studio" in app.get("/"))
    assert b"<noscript>" in app.get("/")
    app.wait_for(lambda: app.status()["state"] == "open")
    assert app.status()["target"] == 40
    for private in ("study.sqlite3", "secret", "bank"):
        with pytest.raises(HTTPError, match="403"):
            app.get(f"/gradio_api/file={app.data_dir / private}")
    with pytest.raises(HTTPError, match="409"):
        app.get("/gradio_api/study/results")
    assert app.end() == 0
    assert "Traceback" not in app.log.read_text()
    assert "bad.toml: unknown key 'colour'" in app.log.read_text()
    assert {path.name for path in app.data_dir.iterdir()} >= {"study.sqlite3", "secret", "bank"}
    assert set(ROOT.iterdir()) - before == set()


def test_a_connection_outlives_a_raters_pause(app: App) -> None:
    app.wait_for(lambda: "the page: " in app.log.read_text())  # told once the server has been set up
    connection = HTTPConnection(app.url.removeprefix("http://"), timeout=PATIENCE_SECONDS)
    for pause in (6, 0):  # uvicorn itself closes after 5
        connection.request("GET", "/gradio_api/study/status")
        assert connection.getresponse().read()
        time.sleep(pause)
    connection.close()


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("TDM_DEVICE", "abacus", "TDM_DEVICE"),
        ("TDM_PRESETS", "/no/such", "no such folder"),
        ("TDM_DATA", "x", "unknown"),
    ],
)
def test_a_wrong_setting_is_two_lines_and_status_2(variable: str, value: str, told: str) -> None:
    run = subprocess.run(
        [sys.executable, "app.py"], cwd=ROOT, env=os.environ | {variable: value}, capture_output=True, text=True
    )
    assert run.returncode == 2
    assert told in run.stderr
    assert len(run.stderr.strip().splitlines()) <= 2


def test_every_published_systems_twin_goes_from_the_page_to_files(tmp_path: Path) -> None:
    names = twins.write(tmp_path / "twins")
    started = App(tmp_path / "data", tmp_path / "twins" / "presets")
    try:
        started.wait_for(lambda: b"Few-step studio" in started.get("/"))
        client = Client(started.url, verbose=False, httpx_kwargs={"timeout": PATIENCE_SECONDS})
        for name in names:
            *files, numbers = client.predict(prompt="a cat on a mat", system=name, api_name="/compare")
            read = [READ[Path(path).suffix](Path(path).read_bytes()) for path in files]
            assert {media.shape[-3:] for media in read} == {(SIDE_PX, SIDE_PX, 3)}, name
            assert {len(media) for media in read} == {FRAMES if SYSTEMS[name].base == "cogvideox" else SIDE_PX}, name
            assert not np.array_equal(read[0], read[2]), name
            assert numbers["student"]["steps"] == 4, name
        client.close()
    finally:
        assert started.end() == 0


def test_importing_the_app_loads_neither_torch_nor_gradio() -> None:
    code = "import app, sys; print(sorted({'torch', 'diffusers', 'gradio'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
