"""A machine that sees everything of a trial but the pixels must not tell where the student lies.

It learns from sizes, headers, times, ids, order and the container of thousands of trials, and is asked about others.
That it could find a leak is shown by planting one at a time.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import zlib

import numpy as np
import pytest
from starlette.applications import Starlette

from tdm_core.generation.packed import pack_pair
from tdm_core.generation.packed_video import pack_videos
from tdm_core.stats import wilson_interval
from tdm_core.study import Choice
from tdm_core.ui import routes as routes_module
from tdm_core.ui.routes import PREFIX, routes
from tests.studies import ARMS, Clock, FakePairs, a_service
from tests.ui.asgi import Caller

TRIALS_PER_RATER = 40
SIZE = 24
CONTAINER_BYTES, VIDEO_CONTAINER_BYTES = 100, 900


class Gallery(FakePairs):
    """Packed pictures as the bank makes them: the student's are noise, the teacher's are plain."""

    def __init__(self) -> None:
        super().__init__(TRIALS_PER_RATER)
        rng = np.random.default_rng(0)
        self.pictures = {
            "student": rng.integers(256, size=(SIZE, SIZE, 3), dtype=np.uint8),
            "teacher": np.full((SIZE, SIZE, 3), 128, dtype=np.uint8),
        }

    def packed(self, pair_id, left_arm, right_arm):
        return pack_pair(self.pictures[left_arm], self.pictures[right_arm])


class MovingGallery(Gallery):
    """Videos as the bank packs them: the student's frames all change, the teacher's stand still."""

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        blocks = rng.integers(256, size=(5, 4, 4, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
        sides = {"student": blocks, "teacher": np.full_like(blocks, 128)}
        self.bodies = pack_videos(sides, [ARMS, ARMS[::-1]], fps=8)

    def packed(self, pair_id, left_arm, right_arm):
        return self.bodies[left_arm, right_arm]


class UnequalFrames(MovingGallery):
    """Frames as long as they happen to be, which a box of free space makes up for."""

    def packed(self, pair_id, left_arm, right_arm):
        plain = super().packed(pair_id, left_arm, right_arm)
        place = plain.index(b"stsz") + 11  # the least byte of the size of a frame
        return plain[:place] + bytes([plain[place] ^ (left_arm == "student")]) + plain[place + 1 :]


class Comment(MovingGallery):
    def packed(self, pair_id, left_arm, right_arm):
        text = b"four steps" if left_arm == "student" else b"many steps"
        return super().packed(pair_id, left_arm, right_arm) + (8 + len(text)).to_bytes(4, "big") + b"free" + text


class LongerBody(Gallery):
    def packed(self, pair_id, left_arm, right_arm):
        return super().packed(pair_id, left_arm, right_arm) + b"\0" * (left_arm == "student")


class SizeOfTheLeftSide(Gallery):
    """Says in the container how small the left side packs."""

    def packed(self, pair_id, left_arm, right_arm):
        plain, small = super().packed(pair_id, left_arm, right_arm), zlib.compress(self.pictures[left_arm].tobytes())
        return plain + len(small).to_bytes(4, "big")


class SlowerStudent(Gallery):
    def packed(self, pair_id, left_arm, right_arm):
        if left_arm == "student":
            time.sleep(0.02)
        return super().packed(pair_id, left_arm, right_arm)


class TextChunk(Gallery):
    def packed(self, pair_id, left_arm, right_arm):
        plain = super().packed(pair_id, left_arm, right_arm)
        chunk = b"tEXtSoftware\0" + (b"four steps" if left_arm == "student" else b"many steps")
        length, checksum = len(chunk) - 4, zlib.crc32(chunk)
        return plain[:33] + length.to_bytes(4, "big") + chunk + checksum.to_bytes(4, "big") + plain[33:]


def watch(pairs, trials, *, fetches=1):
    """All that a browser sees of the trials as numbers [trials, features], and where the student lay [trials]."""
    clock, seen, labels = Clock(), [], []
    service = a_service(pairs=pairs, clock=clock)
    app = Starlette(routes=routes(service, b"s" * 32))

    async def run():
        for _ in range(trials // TRIALS_PER_RATER):
            visitor = Caller(app)
            for _ in range(TRIALS_PER_RATER):
                offer = await visitor.post(f"{PREFIX}/next")
                trial = offer.json()
                fetched = [await visitor("GET", f"{PREFIX}/media/{trial['media']}") for _ in range(fetches)]
                media = min(fetched, key=lambda answer: answer.seconds)  # what else ran on the machine tells nothing
                clock.pass_ms(2000)
                vote = await visitor.post(f"{PREFIX}/vote", trial=trial["trial"], choice=Choice.TIE)
                assert vote.json()["accepted"]
                seen.append(features(trial, [offer, media, vote]))
                with service._store.reading("demo") as records:
                    labels.append(records.trial(trial["trial"]).left_arm == ARMS[0])

    asyncio.run(run())
    return np.array(seen, dtype=float), np.array(labels)


def features(trial, answers):
    digits = (int(digit, 16) for token in (trial["trial"], trial["media"]) for digit in token[:8])
    bits = [digit >> bit & 1 for digit in digits for bit in (0, 3)]
    number = trial["number"]
    values = [*bits, number, number % 2, number % 4 > 1, len(trial["prompt"]), trial["total"]]
    for answer in answers:
        names = [name for name, _ in answer.headers]
        values += [answer.seconds, len(answer.body), len(names), *(len(value) for _, value in answer.headers[:4])]
        values += [hashlib.sha256(" ".join(names).encode()).digest()[0] % 2, answer.status]
    return [*values, *container(answers[1].body)]


def container(body):
    """All bytes of a body but the pixels and their checksums, cut or filled up to a fixed number."""
    if body[4:8] == b"ftyp":
        start = body.index(b"mdat")
        end = start - 4 + int.from_bytes(body[start - 4 : start], "big")
        return (body[end:] + body[:start]).ljust(VIDEO_CONTAINER_BYTES, b"\0")[:VIDEO_CONTAINER_BYTES]
    return container_of_png(body)


def container_of_png(png):
    seen, place = png[:8], 8
    while place + 12 <= len(png):
        length, kind = int.from_bytes(png[place : place + 4], "big"), png[place + 4 : place + 8]
        end = place + 12 + length
        seen += png[place : place + 8] if kind == b"IDAT" else png[place:end]
        place = end
    return (seen + png[place:]).ljust(CONTAINER_BYTES, b"\0")[:CONTAINER_BYTES]


def accuracy(seen, labels, *, folds=5):
    """How often a ridge discriminant on the ranks of the features is right about trials it has not learnt from."""
    ranks = np.argsort(np.argsort(seen, axis=0, kind="stable"), axis=0, kind="stable") / len(seen)
    both = np.concatenate([ranks, (seen - seen.mean(axis=0)) / (seen.std(axis=0) + 1e-9)], axis=1)
    both = np.concatenate([both, np.ones((len(both), 1))], axis=1)
    fold = np.random.default_rng(1).permutation(len(labels)) % folds
    right = 0
    for held_out in range(folds):
        x, y = both[fold != held_out], np.where(labels[fold != held_out], 1.0, -1.0)
        weights = np.linalg.solve(x.T @ x + 10 * np.eye(x.shape[1]), x.T @ y)
        right += int(((both[fold == held_out] @ weights > 0) == labels[fold == held_out]).sum())
    return right, len(labels)


@pytest.mark.parametrize("pairs", [Gallery, MovingGallery])
def test_the_adversary_stays_at_chance(pairs):
    right, trials = accuracy(*watch(pairs(), 4000))
    assert wilson_interval(right, trials).high < 0.54, right / trials


@pytest.mark.parametrize("leak", [LongerBody, SizeOfTheLeftSide, SlowerStudent, TextChunk, UnequalFrames, Comment])
def test_the_adversary_finds_a_planted_leak(leak):
    right, trials = accuracy(*watch(leak(), 240, fetches=3))
    assert right / trials > 0.9


def test_the_adversary_finds_a_planted_header(monkeypatch):
    class Telling(routes_module.FullBody):
        def __init__(self, content, *, when_sent):
            super().__init__(content, when_sent=when_sent)
            if content[60] == 128:  # the first pixel of the teacher's picture
                self.raw_headers.append((b"x-cache", b"hit"))

    monkeypatch.setattr(routes_module, "FullBody", Telling)
    right, trials = accuracy(*watch(Gallery(), 400))
    assert right / trials > 0.9
