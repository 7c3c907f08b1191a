"""The page for programs: gradio_client, curl as the README shows it, and a real MCP client."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from gradio_client import Client
from PIL import Image

from tdm_core.generation.sample import Role
from tdm_core.ui.page import launch_options
from tests.needs import need
from tests.ui.conftest import PATIENCE_SECONDS, ROOT, Studio, fakes_page
from tests.ui.fakes import gradient

README = (ROOT / "README.md").read_text(encoding="utf-8")
PUBLIC = {"compare", "results"}


@pytest.fixture
def client(studio) -> Iterator[Client]:
    opened = Client(studio.url, verbose=False, httpx_kwargs={"timeout": PATIENCE_SECONDS})
    yield opened
    opened.close()


def test_only_compare_and_closed_results_are_open_to_programs(client):
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(named) == {f"/{name}" for name in PUBLIC}


def test_compare_gives_three_lossless_pictures_and_the_numbers(client):
    *files, numbers = client.predict(prompt="a cat", seed=3, api_name="/compare")
    for role, path in zip(Role, files, strict=True):
        assert np.array_equal(np.asarray(Image.open(path)), gradient(role, 3))
    assert numbers["speed_up"] == pytest.approx(14)
    assert [numbers[role]["nfe"] for role in Role] == [56, 8, 4]
    with pytest.raises(Exception, match="prompt is empty"):
        client.predict(prompt="", api_name="/compare")


def test_compare_takes_any_system_that_runs_and_says_why_another_does_not(client):
    *_, numbers = client.predict(prompt="a cat", system="clips", api_name="/compare")
    assert numbers["student"]["steps"] == 4
    with pytest.raises(Exception, match="There is no system"):
        client.predict(prompt="a cat", system="unheard-of", api_name="/compare")
    with pytest.raises(Exception, match="cannot run here"):
        client.predict(prompt="a cat", system="absent", api_name="/compare")


def test_results_are_refused_while_the_study_is_open_and_given_when_it_is_closed(studio, client):
    studio.control(pairs=3)
    with pytest.raises(Exception, match="closed") as refused:
        client.predict(api_name="/results")
    assert not re.search("left|right|student|teacher", str(refused.value))
    studio.control("/close")
    assert client.predict(api_name="/results")["votes"] == 0


def test_what_is_kept_of_callers_is_bounded():
    """Each call of a program is a session of its own, for which Gradio keeps an eighth of a MiB (measured)."""
    assert launch_options()["state_session_capacity"] / 8 <= 40  # MiB


def commands(kind: str) -> list[str]:
    """The README's lines of one kind in its section for programs."""
    text = README.partition("## For programs\n")[2].partition("\n## ")[0]
    return re.findall(rf"```{kind}\n(.*?)```", text, flags=re.DOTALL)


def test_the_readmes_python_example_runs(studio, tmp_path):
    (code,) = commands("python")
    program = code.replace("http://127.0.0.1:7860", studio.url)
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "14.0"


def test_the_readmes_curl_example_runs(studio, tmp_path):
    need(shutil.which("curl"), "no curl is installed, so the README's calls of it are not tested")
    lines = [line for block in commands("bash") for line in block.splitlines() if "curl" in line]
    assert len(lines) == 2
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(lines).replace("http://127.0.0.1:7860", studio.url)],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "event: complete" in run.stdout
    ((*pictures, numbers),) = json.loads(run.stdout.rpartition("data: ")[2])
    assert [picture["url"].startswith(studio.url) for picture in pictures] == [True] * 3
    assert numbers["student"]["nfe"] == 4


# --- MCP ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mcp_page(tmp_path_factory) -> Iterator[Studio]:
    """The page of fakes as its own MCP server, as ``GRADIO_MCP_SERVER=True make run`` starts it."""
    with fakes_page(tmp_path_factory.mktemp("pictures"), GRADIO_MCP_SERVER="True") as served:
        yield served


def test_an_mcp_client_lists_and_calls_compare_and_nothing_of_an_open_study(mcp_page):
    mcp_page.control(pairs=3)
    command = [sys.executable, "-W", "ignore", "-m", "tests.ui.mcp_client", f"{mcp_page.url}/gradio_api/mcp/"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-2000:]
    told = json.loads(run.stdout.splitlines()[-1])
    assert {name.rpartition("_")[2] for name in told["tools"]} == PUBLIC
    assert told["asks"] == ["prompt", "seed", "student_steps", "system", "teacher_steps"]  # sorted
    assert "few-step student" in told["about"]
    assert not told["error"] and "speed_up" in told["text"] and "nfe" in told["text"]
    assert told["refused"] and not re.search("left|right", told["why"])
