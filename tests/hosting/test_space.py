"""The folder of a Space: exact, checked, and it starts as a Space starts it: not as root, on code it cannot write."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from gradio_client import Client

from hosting.space import build, problems
from tests.needs import need

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 180  # for a machine that is busy with something else


@pytest.fixture(scope="module")
def space() -> Iterator[Path]:
    """As built, in a place that everybody may read and nobody write."""
    need(shutil.which("git") and (ROOT / ".git").exists(), "this is no git checkout, so nobody knows what a Space gets")
    place = Path(tempfile.mkdtemp(prefix="tdm-space-"))
    build(place / "app")
    yield place / "app"
    for path in place.rglob("*"):
        path.chmod(0o755)
    shutil.rmtree(place)


def test_the_folder_may_be_uploaded(space):
    assert problems(space) == []
    names = {path.relative_to(space).as_posix() for path in space.rglob("*") if path.is_file()}
    shown = re.findall(r"\]\((docs/[^)]*)\)", (space / "README.md").read_text(encoding="utf-8"))
    assert {path for path in shown if not path.endswith(".md")} <= names
    assert {"app.py", "README.md", "requirements.txt", "LICENSE", "assets/models/mini-sd3-tdm/README.md"} <= names
    assert not any(name.startswith(("tests/", ".", "build/", "data/", "hosting/")) for name in names)


def test_the_readme_tells_a_space_how_to_keep_its_votes_and_which_secrets_it_needs():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    told = re.search(r"^- \*\*A Hugging Face Space\*\*.*$", readme, flags=re.MULTILINE).group()
    assert all(f"`{name}`" in told for name in ("TDM_HUB_DATASET", "HF_TOKEN", "TDM_SECRET", "TDM_ADMIN_TOKEN"))
    assert "TDM_DATABASE_URL" not in told  # a Space reaches the ports 80, 443 and 8080 alone


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("tdm_core/notes.py", "token = 'hf_" + "a" * 34 + "'", "something like a secret"),
        ("tdm_core/key.txt", "-----BEGIN RSA PRIVATE " + "KEY-----", "something like a secret"),
        ("tdm_core/path.py", 'folder = "/ho' + 'me/somebody/models/x"', "a path of one machine"),
        ("data/study.sqlite3", "", "private, by its name"),
        ("assets/.env", "", "private, by its name"),
        ("assets/big.bin", "x" * 10_000_001, "at most 10"),
        ("assets/models/mine/README.md", "# no licence", "names no licence"),
        ("README.md", "# no front matter", "front matter lacks"),
    ],
)
def test_what_must_not_be_uploaded_is_found(tmp_path, name, content, told):
    for licence in ("LICENSE", "assets/scenes/OFL.txt", "README.md"):
        (tmp_path / licence).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / licence, tmp_path / licence)
    assert problems(tmp_path) == []
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(content)
    assert any(told in problem for problem in problems(tmp_path))


def without_rights(command: list[str]) -> tuple[list[str], dict[str, object]]:
    """How to run a command that may write only where it was let: as an account without rights, or as a root without
    its powers where that account may not even run this interpreter; as it is where this one has no rights to give up.
    """
    if os.geteuid() != 0:
        return command, {}
    account = pwd.getpwnam("nobody")
    nobody: dict[str, object] = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    try:
        subprocess.run([sys.executable, "-c", "import gradio"], cwd="/", check=True, capture_output=True, **nobody)
        return command, nobody
    except (PermissionError, subprocess.CalledProcessError):
        need(shutil.which("setpriv"), "this root can give up neither its name nor its powers")
        return ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command], {}


def the_spaces_python(*, imports: str = "sys") -> str | None:
    """The Python that the front matter names, if this machine has one that imports this."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    version = re.search(r'python_version: "([\d.]+)"', readme).group(1)
    found = shutil.which(f"python{version}")  # which may be a stand-in for one that is not there
    tried = found and subprocess.run([found, "-c", f"import {imports}"], capture_output=True, check=False)
    return found if tried and tried.returncode == 0 else None


def test_the_python_that_the_front_matter_names_takes_every_file(space):
    if (python := the_spaces_python()) is None:  # not asked for by TDM_REQUIRE_ALL: a bare Debian has another one
        pytest.skip("the Python of the front matter is not on the PATH, so the code is compiled by this one alone")
    code = "import sys; [compile(open(name, encoding='utf-8').read(), name, 'exec') for name in sys.argv[1:]]"
    files = [str(path) for path in space.rglob("*.py")]
    done = subprocess.run([python, "-W", "error", "-c", code, *files], capture_output=True, text=True, check=False)
    assert len(files) > 100 and done.returncode == 0, done.stderr


def test_it_starts_as_a_space_and_draws(space):
    """Its own environment variables, HOME, Python where that one has the packages, and no rights; the models are real.

    Its secrets are set as the README says, and none is logged.
    """
    home = Path(tempfile.mkdtemp(prefix="tdm-home-"))
    home.chmod(0o777)
    for path in [space, *space.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    shipped = {path.relative_to(space) for path in space.rglob("*")}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    given = {
        "SYSTEM": "spaces",
        "SPACE_ID": "somebody/few-step",
        "SPACE_HOST": "somebody-few-step.hf.space",
        "SPACE_AUTHOR_NAME": "somebody",
        "SPACE_REPO_NAME": "few-step",
        "GRADIO_SERVER_NAME": "0.0.0.0",
        "GRADIO_SERVER_PORT": str(port),
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TDM_SECRET": "hush-" + "s" * 16,
        "TDM_ADMIN_TOKEN": "hush-" + "a" * 16,
    }
    log = home / "log"
    with log.open("wb") as file:
        command, account = without_rights(
            [the_spaces_python(imports="gradio, torch, diffusers") or sys.executable, "app.py"]
        )
        process = subprocess.Popen(command, cwd=space, env=given, stdout=file, stderr=file, **account)
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            try:
                with urlopen(f"{url}/gradio_api/study/status", timeout=30):
                    break
            except (URLError, OSError):
                time.sleep(0.5)
        client = Client(url, verbose=False, httpx_kwargs={"timeout": PATIENCE_SECONDS})
        *files, numbers = client.predict(prompt="a cat", seed=3, api_name="/compare")
        client.close()
        assert len(files) == 3 and numbers["student"]["nfe"] == 4 and numbers["preset"] == "mini-sd3"
        made = {path.name for path in (home / "tdm-data").iterdir()}
        assert {"study.sqlite3", "pictures"} <= made and "secret" not in made  # TDM_SECRET stands in for it
        assert {path.relative_to(space) for path in space.rglob("*")} == shipped
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0, log.read_text()
        # Gradio's watcher on a Space asks for the package `spaces`, which every Space has and this machine may lack.
        told = log.read_text()
        assert told.count("Traceback") == told.count("`spaces` package is required"), told
        assert "hush-" not in told
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(home, ignore_errors=True)


# --- ZeroGPU --------------------------------------------------------------------------------------------------------

FAKE_SPACES = '''
import inspect, multiprocessing, pickle, sys
assert "torch" not in sys.modules, "spaces must be imported before torch"
ASKED = []
def aoti_capture(module):
    from tests.generation.test_ahead import Spaces
    return Spaces.aoti_capture(module)
def aoti_compile(exported):
    from tests.generation.test_ahead import Spaces
    return Spaces.aoti_compile(exported)
def GPU(duration):
    """As ZeroGPU does it: a forked process for each call, arguments and results pickled, generators streamed."""
    def decorate(function):
        if not inspect.isgeneratorfunction(function):
            def streamed():
                yield function()
            return lambda: next(iter(GPU(duration=lambda: duration)(streamed)()))
        def rented(*args):
            ASKED.append(duration(*args))
            there, here = multiprocessing.Pipe()
            def work():
                for event in function(*pickle.loads(pickle.dumps(args))):
                    there.send(event)
                there.send(None)
            context = multiprocessing.get_context("fork")
            process = context.Process(target=work)
            process.start()
            while (event := here.recv()) is not None:
                yield event
            process.join()
        return rented
    return decorate
'''

PROGRAM = """
import sys
import app
from tdm_core.generation.visitors import Visitors
from tdm_core.generation.sample import Role, SampleRequest, finish
from tdm_core.settings import Settings
from tdm_core.wiring import Wiring
wiring = Wiring(Settings.from_env())
preset = wiring.presets["tiny"]
sample = app.sampler(wiring, preset)
look = app.trajectory(wiring, Visitors(sample))
assert list(wiring.engine._systems) == ["tiny"], "loaded before the page starts"
request = SampleRequest(preset="tiny", role=Role.STUDENT, prompt="a cat", seed=1)
made, looked_into = finish(sample(request)), finish(look(request, ()))
alone = finish(wiring.engine.sample(request))
assert (made.media == alone.media).all() and (looked_into.media == alone.media).all() and made.nfe == 4
import spaces
print(spaces.ASKED, "forward" in vars(wiring.engine._systems["tiny"].pipeline(student=True).transformer))
"""


@pytest.mark.parametrize(("compiled", "told"), [("off", "[60, 60] False"), ("on", "[1200, 60, 60] True")])
def test_on_zerogpu_a_sample_rents_its_device_for_a_fitted_time(tmp_path, tiny_system, compiled, told):
    (tmp_path / "spaces.py").write_text(FAKE_SPACES)
    environment = os.environ | {
        "SPACES_ZERO_GPU": "1",
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
        "TDM_PRESETS": str(tiny_system / "presets"),
        "TDM_DATA_DIR": str(tmp_path / "data"),
        "TDM_DEVICE": "cpu",
        "TDM_THREADS": "1",
        "TDM_COMPILE": compiled,
    }
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == told  # no bench has fitted this system
