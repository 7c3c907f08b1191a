"""The benchmark of full sizes, on tiny networks of the same classes: it runs, and says so where it cannot."""

from math import isfinite

import pytest
import torch

from benchmarks import full_size
from benchmarks.rows import Measure, load

NFE = {"sd3": 56 / 4, "sdxl": 50 / 4, "cogvideox": 100 / 4}


@pytest.fixture
def no_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.mark.parametrize("system", full_size.SYSTEMS)
def test_a_tiny_system_is_trained_and_sampled(system, monkeypatch):
    monkeypatch.setattr(full_size, "ROUNDS", 1)
    measures = full_size.measure(system, torch.device("cpu"), tiny=True)
    values = {measure.what: measure.value for measure in measures}
    assert all(isfinite(value) and value > 0 for value in values.values())
    steps, rows, whole, *rest = values
    assert steps == "training: steps of 4 rows, 1 at once" and rows == "training: rows"
    assert whole.startswith("training: a step of the recipe's ")
    assert len(rest) == 5 and all(what.startswith("sampling: ") for what in rest)
    assert values["sampling: teacher / student, network evaluations"] == NFE[system]


def test_tiny_runs_are_shown_and_make_no_row(monkeypatch, capsys):
    def refuse(*_, **__):
        raise AssertionError("a tiny run is no result")

    monkeypatch.setattr(full_size, "measure", lambda *_, **__: [Measure(what="training: rows", value=2.0, unit="1/s")])
    monkeypatch.setattr(full_size, "save", refuse)
    assert full_size.main(["--tiny"]) == 0
    assert capsys.readouterr().out.count("training: rows") == len(full_size.SYSTEMS)


@pytest.mark.parametrize("arguments", [[], ["sd3"], ["--device", "cuda:3"], ["--device", "cpu"]], ids=" ".join)
def test_without_such_a_card_the_error_is_one_line(arguments, no_cuda, capsys):
    assert full_size.main(arguments) == 1
    told = capsys.readouterr()
    assert told.out == "" and len(told.err.splitlines()) == 1
    assert "CUDA" in told.err


def test_memory_is_held_against_the_bar():
    (tensors, taken), (over, _) = (full_size.memory(size, 17 * 10**9, bar=True) for size in (15 * 10**9, 16 * 10**9))
    assert tensors.met and tensors.value == 15 and taken.value == 17 and taken.met is None
    assert over.met is False
    assert full_size.memory(1, 1, bar=False)[0].met is None


def test_a_row_names_the_card(tmp_path):
    measures = [Measure(what="training: rows", value=2.0, unit="1/s")]
    full_size.save_row("sd3", measures, machine="NVIDIA H100 80GB HBM3", folder=tmp_path)
    (row,) = load(tmp_path)
    assert (row.name, row.machine) == ("full-size-sd3-nvidia-h100-80gb-hbm3", "NVIDIA H100 80GB HBM3")
    assert row.command == "python -m benchmarks.full_size sd3" and row.measures == tuple(measures)
