"""Ray Serve: two replicas draw what the local engine draws, and a killed one loses no request."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
from gradio_client import Client

from tdm_core.errors import ConfigError
from tdm_core.serving import ray as serving
from tests.running_app import PATIENCE_SECONDS, App, only_tiny, with_bank

ROOT = Path(__file__).parents[2]

# In a process of its own: Ray leaves threads and warnings behind that are none of ours.
PROGRAM = """
import os, signal, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np
from tdm_core.errors import PresetError
from tdm_core.generation.engine import Engine
from tdm_core.generation.presets import load_presets
from tdm_core.generation.sample import Progress, Role, SampleRequest, finish
from tdm_core.serving.ray import RayEngine

presets = load_presets([Path(sys.argv[1])])
local = Engine(presets, device="cpu", threads=1)
remote = RayEngine(presets, replicas=2, device="cpu", threads=1)
remote.warm_up("tiny")

def asked(seed, role=Role.STUDENT, steps=None, preset="tiny"):
    return SampleRequest(preset=preset, role=role, prompt=f"cat {seed}", seed=seed, steps=steps)

for request in (asked(1), asked(2, Role.TEACHER), asked(3, Role.TEACHER_FEW, steps=4)):
    events = list(remote.sample(request))
    made, mine = events[-1], finish(local.sample(request))
    assert (made.media == mine.media).all() and made.noise_sha256 == mine.noise_sha256, request
    assert all(isinstance(event, Progress) for event in events[:-1])
    assert len(events) > 2 or request.role is not Role.TEACHER  # its previews all come
batch = remote.sample_batch([asked(4), asked(5)])
assert [(a.media == b.media).all() for a, b in zip(batch, local.sample_batch([asked(4), asked(5)]))] == [True, True]
try:
    finish(remote.sample(asked(6, preset="unheard-of")))
except PresetError as error:
    assert len(str(error).splitlines()) == 1, error
else:
    raise AssertionError("an unknown preset was drawn")

processes = set()
while len(processes) < 2:
    processes.add(remote._handle.process.remote().result())

def killed_while_it_runs():
    time.sleep(0.3)
    os.kill(min(processes), signal.SIGKILL)

with ThreadPoolExecutor(12) as pool:
    threading.Thread(target=killed_while_it_runs).start()
    made = list(pool.map(lambda seed: finish(remote.sample(asked(seed, Role.TEACHER, steps=60))), range(12)))
for seed, sample in enumerate(made):
    alone = finish(local.sample(asked(seed, Role.TEACHER, steps=60)))
    assert np.abs(sample.media.astype(int) - alone.media).max() <= 1, seed  # batched: rounding
remote.close()
print("all of it")
"""


PATIENT = {  # on a machine that is busy with something else
    "OMP_NUM_THREADS": "1",
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_worker_niceness": "0",  # Ray's own 15 never gets a turn there
}


@pytest.fixture
def with_ray():
    if find_spec("ray") is None:  # not asked for by TDM_REQUIRE_ALL either: it is larger than all else together
        pytest.skip("Ray is not installed (pip install 'ray[serve]'), so the engine on replicas is not tested")


@pytest.mark.usefixtures("with_ray")
def test_the_app_draws_on_replicas_and_stops_when_told(tiny_system, tmp_path):
    presets = only_tiny(tiny_system, tmp_path / "presets")
    with_bank(tmp_path / "data")
    app = App(tmp_path / "data", presets, TDM_REPLICAS="2", TDM_DEVICE="cpu", **PATIENT)
    try:
        app.wait_for(lambda: "is loaded" in app.log.read_text())
        client = Client(app.url, verbose=False, httpx_kwargs={"timeout": PATIENCE_SECONDS})
        *files, numbers = client.predict(prompt="a cat", seed=3, api_name="/compare")
        client.close()
        assert len(files) == 3 and numbers["student"]["nfe"] == 4
        assert app.end() == 0, app.log.read_text()
    finally:
        app.process.kill()
        app.process.wait()
    assert "Traceback" not in app.log.read_text()


@pytest.mark.usefixtures("with_ray")
def test_two_replicas_draw_what_the_engine_draws_and_survive_a_kill(tiny_system):
    environment = os.environ | PATIENT
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tiny_system / "presets")]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            out, err = process.communicate(timeout=900)
        finally:
            with suppress(ProcessLookupError):  # Ray's own processes, if it did not come to end them
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, err[-3000:]
    assert out.strip().endswith("all of it")


def test_without_ray_the_setting_says_what_to_install(monkeypatch):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(serving, "import_module", missing)
    with pytest.raises(ConfigError, match=r"TDM_REPLICAS: needs Ray Serve.*\nInstall it with: pip install") as error:
        serving.RayEngine({}, replicas=2)
    assert len(str(error.value).splitlines()) == 2
