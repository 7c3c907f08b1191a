"""The study's routes over real HTTP, clients on the same machine: votes per second, latencies, errors, memory.

``python -m benchmarks.study_load --minutes 5`` lets 300 raters at human pace go on for as long as the bar asks;
``python -m benchmarks study_load`` keeps that part to one minute.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import secrets
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette

from benchmarks.rows import ROOT, Measure, save
from benchmarks.startup import free_port
from tdm_core.generation.bank import Bank, build_bank
from tdm_core.generation.sample import Sample
from tdm_core.storage import open_store
from tdm_core.study.rules import DEMO
from tdm_core.study.service import StudyService
from tdm_core.ui.routes import routes

CLIENTS, CLOSED_SECONDS = 50, 10
VOTES_PER_SECOND, OPEN_SECONDS = 40, 20
RATERS, SECONDS_PER_VOTE = 300, 10
PAIRS = 40
FOLDER = "STUDY_LOAD_FOLDER"  # how the server learns of its folder


@dataclass
class Tally:
    """What the clients saw."""

    votes: int = 0
    errors: list[str] = field(default_factory=list)
    vote_seconds: list[float] = field(default_factory=list)


class Client:
    """One rater on one connection that is kept open: HTTP/1.1 by hand, since a library would be most of the load."""

    def __init__(self, port: int, tally: Tally) -> None:
        self._port, self._tally, self._cookie = port, tally, ""
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def one_vote(self) -> None:
        """Ask for a trial, fetch its pictures, vote; a rater who is finished comes back as somebody else."""
        try:
            trial = await self._json("POST", "next", {})
            if trial.get("state") == "finished":
                self._cookie = ""
                trial = await self._json("POST", "next", {})
            await self._ask("GET", f"media/{trial['media']}")
            start = time.perf_counter()
            answer = await self._json("POST", "vote", {"trial": trial["trial"], "choice": "left"})
            self._tally.vote_seconds.append(time.perf_counter() - start)
            self._tally.votes += bool(answer.get("accepted"))
            if not answer.get("accepted"):
                self._tally.errors.append(str(answer))
        except (OSError, KeyError, ValueError, asyncio.IncompleteReadError) as error:
            self._tally.errors.append(repr(error))
            self._streams = None

    async def _json(self, method: str, path: str, values: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(await self._ask(method, path, json.dumps(values).encode()))
        return answer

    async def _ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        head = f"{method} /gradio_api/study/{path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(body)}\r\n"
        cookie = f"cookie: {self._cookie}\r\n" if self._cookie else ""
        writer.write(f"{head}{cookie}\r\n".encode() + body)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
        for line in lines:
            if line.lower().startswith("set-cookie: "):
                self._cookie = line[12:].partition(";")[0]
        content = await reader.readexactly(int(headers["content-length"]))
        if lines[0].split()[1:2] != ["200"]:
            raise ValueError(f"{path.partition('/')[0]}: {lines[0]} {content[:200]!r}")
        return content


def main(minutes: float = 1.0) -> None:
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        served = [
            "--factory",
            "benchmarks.study_load:app",
            "--port",
            str(port),
            "--log-level",
            "warning",
            "--timeout-keep-alive",
            "60",
        ]
        command = [sys.executable, "-m", "uvicorn", *served]
        server = subprocess.Popen(command, cwd=ROOT, env=os.environ | {FOLDER: folder})
        try:
            measures = asyncio.run(measure(port, server.pid, minutes))
        finally:
            server.kill()
            server.wait()
    print(save("study_load", f"python -m benchmarks.study_load --minutes {minutes:g}", measures))


async def measure(port: int, pid: int, minutes: float) -> list[Measure]:
    await wait_for(port)
    closed, paced, human = Tally(), Tally(), Tally()
    busy = processor_seconds(pid)
    seconds = await closed_loop(port, closed)
    rate = closed.votes / seconds
    cost = (processor_seconds(pid) - busy) / max(1, closed.votes) * 1000
    await open_loop(port, paced)
    p95 = float(np.quantile(paced.vote_seconds, 0.95)) * 1000
    before = memory_mib(pid)
    await human_pace(port, human, minutes * 60)
    grown = memory_mib(pid) - before
    for tally in (closed, paced, human):
        print(f"{tally.votes} votes, {len(tally.errors)} errors", *tally.errors[:3], flush=True)
    errors = len(closed.errors) + len(paced.errors)
    return [
        Measure(
            what=f"closed loop, {CLIENTS} clients",
            value=rate,
            unit="votes/s",
            n=closed.votes,
            bar=">= 100",
            met=rate >= 100,
        ),
        Measure(what="the server's processor time per vote meanwhile", value=cost, unit="ms", n=closed.votes),
        Measure(
            what=f"open loop at {VOTES_PER_SECOND} votes/s: p95 of a vote",
            value=p95,
            unit="ms",
            n=paced.votes,
            bar="< 200",
            met=p95 < 200,
        ),
        Measure(what="errors in both", value=errors, bar="0", met=errors == 0),
        Measure(
            what=f"errors of {RATERS} raters at human pace for {minutes:g} min",
            value=len(human.errors),
            n=human.votes,
            bar="0",
            met=not human.errors,
        ),
        Measure(what="growth of the server's memory meanwhile", value=grown, unit="MiB", bar="< 20", met=grown < 20),
    ]


async def closed_loop(port: int, tally: Tally) -> float:
    """Each client votes again as soon as its vote is acknowledged; the seconds it took."""
    start = time.perf_counter()

    async def go_on() -> None:
        client = Client(port, tally)
        while time.perf_counter() - start < CLOSED_SECONDS:
            await client.one_vote()

    await asyncio.gather(*(go_on() for _ in range(CLIENTS)))
    return time.perf_counter() - start


async def open_loop(port: int, tally: Tally) -> None:
    """Votes begin at a steady rate, however long the ones before take."""
    idle = [Client(port, tally) for _ in range(CLIENTS)]
    running = []

    async def vote() -> None:
        client = idle.pop() if idle else Client(port, tally)
        await client.one_vote()
        idle.append(client)

    start = time.perf_counter()
    for number in range(VOTES_PER_SECOND * OPEN_SECONDS):
        await asyncio.sleep(max(0.0, start + number / VOTES_PER_SECOND - time.perf_counter()))
        running.append(asyncio.create_task(vote()))
    await asyncio.gather(*running)


async def human_pace(port: int, tally: Tally, seconds: float) -> None:
    start = time.perf_counter()

    async def rate() -> None:
        client = Client(port, tally)
        while True:
            await asyncio.sleep(random.uniform(0.2, 1.8) * SECONDS_PER_VOTE)
            if time.perf_counter() - start > seconds:
                return
            await client.one_vote()

    await asyncio.gather(*(rate() for _ in range(RATERS)))


async def wait_for(port: int) -> None:
    for _ in range(600):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        except OSError:
            await asyncio.sleep(0.2)
    raise RuntimeError("the server did not come up")


def processor_seconds(pid: int) -> float:
    """Of all threads so far; unlike the rate, it hardly depends on what else the machine does."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def app() -> Starlette:
    """The real routes, bank and database; pictures of noise, and no minimum view, so that clients set the pace."""
    folder = Path(os.environ[FOLDER])
    rules = replace(DEMO, min_view_ms=0, target=PAIRS)
    for _ in build_bank(folder / "bank", preset="noise", prompts=["noise"], sample=noise, pairs=PAIRS):
        pass
    bank = Bank(folder / "bank", preset="noise")
    service = StudyService(store=open_store(folder), pairs=bank, rules=rules)
    return Starlette(routes=routes(service, secrets.token_bytes(32)))


def noise(request: Any) -> Any:
    pixels = np.random.default_rng(request.seed).integers(256, size=(128, 128, 3), dtype=np.uint8)
    yield Sample(
        media=pixels,
        kind="image",
        steps=1,
        nfe=1,
        guidance_scale=1.0,
        scheduler="none",
        seconds=0.0,
        denoiser_seconds=0.0,
        noise_sha256=str(request.seed),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    main(parser.parse_args().minutes)
