"""Checkpoints are whole or absent."""

import random
import resource

import numpy as np
import pytest
import torch

from tdm_core.errors import TrainingError
from tdm_core.training import checkpoint

ABOUT = {"config_hash": "abc"}


def save(folder, step, *, keep=5):
    return checkpoint.save(folder, {"step": step, "weights": torch.full((2,), float(step))}, ABOUT, keep=keep)


def load(path):
    return checkpoint.load(path, ABOUT, allow_other=False)


def test_a_checkpoint_gives_back_what_was_saved(tmp_path):
    state = load(save(tmp_path, 7))
    assert state["step"] == 7 and torch.equal(state["weights"], torch.full((2,), 7.0))


def test_random_states_are_given_back(tmp_path):
    path = save(tmp_path, 1)
    expected = torch.rand(2).tolist(), random.random(), np.random.random()
    load(path)
    assert (torch.rand(2).tolist(), random.random(), np.random.random()) == expected


def test_only_the_newest_are_kept(tmp_path):
    for step in (5, 50, 500):
        save(tmp_path, step, keep=2)
    assert [path.name for path in checkpoint.complete(tmp_path)] == ["step-000050", "step-000500"]


def test_a_full_disk_leaves_the_checkpoint_before_it_and_says_so(tmp_path):
    """A limit on file sizes breaks a write in its middle, as a full disk does."""
    save(tmp_path, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(
            TrainingError, match=r"step-000002: cannot be saved: .*\nMake room and continue with --resume"
        ):
            checkpoint.save(tmp_path, {"step": 2, "weights": torch.zeros(100_000)}, ABOUT, keep=5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]
    assert load(tmp_path / "step-000001")["step"] == 1


def test_a_write_that_fails_leaves_the_checkpoint_before_it(tmp_path, monkeypatch):
    save(tmp_path, 1)

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(TrainingError, match="No space left"):
        save(tmp_path, 2)
    assert [path.name for path in checkpoint.complete(tmp_path)] == ["step-000001"]
    monkeypatch.undo()
    save(tmp_path, 2)
    assert {path.name for path in tmp_path.iterdir()} == {"step-000001", "step-000002"}


def test_a_damaged_checkpoint_says_so(tmp_path):
    path = save(tmp_path, 1)
    state = path / checkpoint.STATE
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(TrainingError, match="cannot be read"):
        load(path)


def cut(whole):
    return whole[: len(whole) // 2]


@pytest.mark.parametrize(
    "content",
    [b"junk", b"", b"\x80", b"PK\x03\x04", b"\x80\x02}q\x00.", b"\x00" * 50, cut],
    ids=["words", "nothing", "a byte", "the head of a zip", "a pickle", "zeros", "its first half"],
)
def test_a_file_of_anything_else_says_so(tmp_path, content):
    path = save(tmp_path, 1)
    state = path / checkpoint.STATE
    state.write_bytes(content if isinstance(content, bytes) else content(state.read_bytes()))
    with pytest.raises(TrainingError, match=r"step-000001: cannot be read: .+\nDelete it"):
        load(path)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"step": 1}, "it has no 'random'"),
        ({"step": 1, "random": {}}, "it has no 'torch'"),
        ({"step": 1, "random": {"torch": 3}}, ""),
        ([1, 2], ""),
        (torch.ones(3), ""),
    ],
    ids=repr,
)
def test_a_readable_file_that_is_no_checkpoint_says_so(tmp_path, state, reason):
    path = save(tmp_path, 1)
    torch.save(state, path / checkpoint.STATE)
    with pytest.raises(TrainingError, match=f"cannot be read: {reason}.*\nDelete it"):
        load(path)


@pytest.mark.parametrize("about", ["[]", "3", '"text"', "{", "null"])
def test_an_about_file_of_anything_else_says_so(tmp_path, about):
    path = save(tmp_path, 1)
    (path / checkpoint.ABOUT).write_text(about)
    with pytest.raises(TrainingError):
        load(path)


def test_no_code_is_run_from_a_checkpoint(tmp_path):
    path = save(tmp_path, 1)

    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    torch.save({"step": 1, "evil": Evil()}, path / checkpoint.STATE)
    with pytest.raises(TrainingError, match="cannot be read"):
        load(path)
