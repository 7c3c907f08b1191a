"""The whole app under visitors who browse, generate and vote: errors, and whether its memory stays flat.

``python -m benchmarks.mixed_load --minutes 30`` is what the bar asks; ``python -m benchmarks mixed_load`` keeps to
three.  The app runs as ``make run`` starts it, in a folder of its own, and its study votes on its own pairs.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from statistics import mean

import httpx

from benchmarks.rows import ROOT, Measure, save
from benchmarks.startup import free_port
from benchmarks.study_load import memory_mib

BROWSERS, PAINTERS, RATERS = 4, 2, 6
PAUSE_SECONDS = {"browse": 3.0, "generate": 2.0, "vote": 4.0}
WARM_UP = 0.2  # share of the time before memory is looked at: pools and caches fill first
PROMPTS = ("a cat", "two foxes", "a cat left of a dog", "a rocket on red", "an owl and a pear")


class Visitors:
    """What they did, and what went wrong."""

    def __init__(self, url: str, seconds: float) -> None:
        self._url, self._until, self._seeds = url, time.monotonic() + seconds, itertools.count()
        self.done: Counter[str] = Counter()
        self.errors: list[str] = []

    async def all(self) -> None:
        crowds = [(self.browse, BROWSERS), (self.generate, PAINTERS), (self.vote, RATERS)]
        await asyncio.gather(*(self._go_on(act) for act, number in crowds for _ in range(number)))

    async def browse(self, client: httpx.AsyncClient) -> bool:
        """The page, its configuration and what it links to first."""
        for path in ("/", "/config", "/gradio_api/info", "/theme.css"):
            (await client.get(path)).raise_for_status()
        return True

    async def generate(self, client: httpx.AsyncClient) -> bool:
        """A pair with the cut teacher between them, as programs ask for it."""
        number = next(self._seeds)
        asked = {"data": [PROMPTS[number % len(PROMPTS)], number, 4, 28, "mini-sd3"]}
        answer = await client.post("/gradio_api/call/compare", json=asked)
        answer.raise_for_status()
        told = (await client.get(f"/gradio_api/call/compare/{answer.json()['event_id']}")).text
        if "event: complete" not in told:
            raise RuntimeError(f"compare: {told[-200:]!r}")
        return True

    async def vote(self, client: httpx.AsyncClient) -> bool:
        """One trial from its issue to its acknowledgement; who is finished comes back as somebody else."""
        trial = (await client.post("/gradio_api/study/next", json={})).raise_for_status().json()
        if trial["state"] != "trial":
            client.cookies.clear()
            return False
        (await client.get(f"/gradio_api/study/media/{trial['media']}")).raise_for_status()
        await asyncio.sleep(trial["min_view_ms"] / 1000 + 0.1)
        ballot = {"trial": trial["trial"], "choice": "left"}
        answer = (await client.post("/gradio_api/study/vote", json=ballot)).raise_for_status().json()
        if not answer["accepted"]:
            raise RuntimeError(f"vote: {answer}")
        return True

    async def _go_on(self, act: Callable[[httpx.AsyncClient], Awaitable[bool]]) -> None:
        name = act.__name__
        async with httpx.AsyncClient(base_url=self._url, timeout=120) as client:
            while time.monotonic() < self._until:
                try:
                    self.done[name] += await act(client)
                except (httpx.HTTPError, RuntimeError, KeyError, ValueError) as error:
                    self.errors.append(f"{name}: {error!r}")
                await asyncio.sleep(PAUSE_SECONDS[name])


def main(minutes: float = 3.0) -> None:
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        environment = os.environ | {"TDM_DATA_DIR": folder, "GRADIO_SERVER_PORT": str(port)}
        server = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment)
        try:
            measures = asyncio.run(measure(url, server.pid, minutes))
        finally:
            server.terminate()
            server.wait(60)
    for measure_ in measures:
        print(f"{measure_.what:60} {measure_.value:8.1f} {measure_.unit:4} {measure_.bar:12} {measure_.met}")
    print(save("mixed_load", f"python -m benchmarks.mixed_load --minutes {minutes:g}", measures))


async def measure(url: str, pid: int, minutes: float) -> list[Measure]:
    await study_is_open(url)
    visitors, memory = Visitors(url, minutes * 60), [memory_mib(pid)]

    async def watch() -> None:
        while True:
            await asyncio.sleep(minutes * 60 / 120)
            memory.append(memory_mib(pid))

    watching = asyncio.create_task(watch())
    await visitors.all()
    watching.cancel()
    for error, times in Counter(visitors.errors).most_common(5):
        print(f"{times} x {error}", flush=True)
    warm = memory[round(len(memory) * WARM_UP) :]
    fifth = max(1, len(warm) // 5)
    growth = (mean(warm[-fifth:]) / mean(warm[:fifth]) - 1) * 100
    done = visitors.done
    return [
        Measure(what=f"page loads, {BROWSERS} visitors", value=done["browse"]),
        Measure(what=f"comparisons, {PAINTERS} visitors", value=done["generate"]),
        Measure(what=f"acknowledged votes, {RATERS} raters", value=done["vote"]),
        Measure(
            what=f"errors in {minutes:g} min",
            value=len(visitors.errors),
            n=done.total(),
            bar="0",
            met=not visitors.errors,
        ),
        Measure(what="memory at the end", value=warm[-1], unit="MiB"),
        Measure(
            what="growth of memory, last fifth over first after warming up",
            value=growth,
            unit="%",
            bar="<= 5",
            met=growth <= 5,
        ),
    ]


async def study_is_open(url: str, seconds: float = 300) -> None:
    """The app has made the pairs that a first trial needs."""
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        for _ in range(round(seconds)):
            try:
                if (await client.get("/gradio_api/study/status")).json()["state"] == "open":
                    return
            except (httpx.HTTPError, ValueError):
                pass
            await asyncio.sleep(1)
    raise RuntimeError("the app's study did not open")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mixed_load", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long visitors go on (default: 30)")
    main(parser.parse_args().minutes)
