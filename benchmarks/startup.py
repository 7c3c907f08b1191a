"""From `make run`, installed, to a page that answers; and what `import tdm_core` costs."""

from __future__ import annotations

import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError

from benchmarks.rows import ROOT, Measure, save

RUNS = 3
PATIENCE_SECONDS = 120


def main() -> None:
    page = [seconds_to_page() for _ in range(RUNS)]
    imported = [seconds_to_import() for _ in range(RUNS)]
    measures = [
        Measure(
            what="`make run`, installed, to a page that answers (worst run, fresh data folder)",
            value=max(page),
            unit="s",
            n=RUNS,
            bar="<= 15 s",
            met=max(page) <= 15,
        ),
        Measure(what="`import tdm_core` (median)", value=statistics.median(imported), unit="s", n=RUNS),
    ]
    print(save("startup", "make bench ARGS=startup", measures))


def seconds_to_page() -> float:
    """Start the app as a user does, with an empty data folder, and wait for its first page."""
    port = free_port()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as data_dir, running_app(port, data_dir) as app:
        while time.perf_counter() - start < PATIENCE_SECONDS:
            if app.poll() is not None:
                raise RuntimeError(f"make run ended with status {app.returncode} before its page answered")
            if answers(f"http://127.0.0.1:{port}/"):
                return time.perf_counter() - start
            time.sleep(0.05)
    raise RuntimeError(f"no page after {PATIENCE_SECONDS} seconds")


@contextmanager
def running_app(port: int, data_dir: str) -> Iterator[subprocess.Popen[bytes]]:
    environ = os.environ | {"GRADIO_SERVER_PORT": str(port), "TDM_DATA_DIR": data_dir}
    # A group of its own, so that make and its child are stopped together.
    app = subprocess.Popen(["make", "run"], cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        yield app
    finally:
        if app.poll() is None:
            os.killpg(app.pid, signal.SIGTERM)
            app.wait(timeout=30)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status == 200 and len(response.read()) > 0
    except (URLError, OSError):
        return False


def seconds_to_import() -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import tdm_core"], cwd=ROOT, check=True)
    return time.perf_counter() - start


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
