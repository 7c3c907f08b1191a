"""A whole run: resumed to the bit, refused when it does not fit, logged without doubles."""

import json

import numpy as np
import pytest
import torch

from tdm_core.errors import TrainingError
from tdm_core.training.distillation import distil
from tests.training.recipes import recipe, tiny_trainer


def run(config, *, until=None, prompts="abc", **options):
    """Train in a fresh process's stead; asked to stop after step ``until``."""
    trainer = tiny_trainer(config)
    finished = distil(config, trainer, prompts_digest=prompts, stop=lambda: trainer.step == until, **options)
    assert finished == (until is None)
    return trainer


def rows(config):
    lines = (config.run.folder / "log.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def tensors(value):
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from tensors(inner)


def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one_to_the_bit(tmp_path):
    whole, halved = (recipe(tmp_path / name) for name in ("whole", "halved"))
    uninterrupted = run(whole)
    run(halved, until=3)
    torch.manual_seed(123)  # another process would have other global random states
    resumed = run(halved, resume=True)
    assert resumed.step == uninterrupted.step == 6
    pairs = list(zip(tensors(uninterrupted.state()), tensors(resumed.state()), strict=True))
    assert len(pairs) > 100
    assert all(torch.equal(one, other) for one, other in pairs)
    assert rows(whole) == rows(halved)


def test_rows_after_the_checkpoint_are_written_once(tmp_path):
    config = recipe(tmp_path)
    run(config, until=2)
    with (config.run.folder / "log.jsonl").open("a") as log:  # a kill -9 after step 3, and in the middle of a row
        log.write('{"step": 3, "student_loss": 0.1}\n{"step": 4, "stud')
    run(config, resume=True)
    assert [row["step"] for row in rows(config)] == [1, 2, 3, 4, 5, 6]


def test_resuming_where_there_is_nothing_starts_anew(tmp_path):
    assert run(recipe(tmp_path), resume=True).step == 6


def test_a_finished_run_is_not_overwritten(tmp_path):
    config = recipe(tmp_path)
    run(config)
    with pytest.raises(TrainingError, match=r"holds a run already, at step-000006"):
        run(config)


def test_a_checkpoint_of_another_recipe_is_refused_unless_told(tmp_path):
    run(recipe(tmp_path), until=2)
    other = recipe(tmp_path, optimiser={"student_lr": 1e-5})
    with pytest.raises(TrainingError, match=r"made with optimiser.student_lr 0.0005, now 1e-05.\n.*--allow-change"):
        run(other, resume=True)
    assert run(other, resume=True, allow_change=True).step == 6


@pytest.mark.parametrize(
    ("lora", "reason"),
    [({"rank": 2}, "is \\(4, .*not \\(2, "), ({"targets": ["attn.to_q"]}, "names differ")],
    ids=["rank", "targets"],
)
def test_a_checkpoint_of_other_layers_is_refused_even_if_told(tmp_path, lora, reason):
    run(recipe(tmp_path), until=2)
    with pytest.raises(TrainingError, match=rf"step-000002: does not fit .*{reason}.*\n.*lora.rank and lora.targets"):
        run(recipe(tmp_path, lora=lora), resume=True, allow_change=True)


def test_a_run_that_ended_before_its_first_checkpoint_keeps_its_log_unless_begun_anew(tmp_path):
    config = recipe(tmp_path, optimiser={"iterations": 2})
    config.run.folder.mkdir(parents=True)
    (config.run.folder / "log.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(TrainingError, match=r"ended before its first checkpoint.\nBegin it anew with --resume"):
        run(config)
    assert rows(config) == [{"step": 1}] and not (config.run.folder / "recipe.json").exists()
    run(config, resume=True)
    assert [row["step"] for row in rows(config)] == [1, 2]


def test_a_run_that_ended_before_its_first_step_left_nothing_to_lose(tmp_path):
    config = recipe(tmp_path, optimiser={"iterations": 1})
    config.run.folder.mkdir(parents=True)
    (config.run.folder / "log.jsonl").touch()
    run(config)
    assert [row["step"] for row in rows(config)] == [1]


@pytest.mark.parametrize("line", [b'{"student_loss": 0.1}', b'{"step": "two"}', b"{step}", b"{\xff}", b"[{}"], ids=repr)
def test_a_log_that_is_none_is_left_as_it_is(tmp_path, line):
    config = recipe(tmp_path)
    run(config, until=2)
    log = config.run.folder / "log.jsonl"
    content = log.read_bytes() + line + (b"" if line.endswith(b"}") else b"}") + b"\n"
    log.write_bytes(content)
    with pytest.raises(TrainingError, match=r"log.jsonl, line 3: is no row of a run's log.*\nDelete the line"):
        run(config, resume=True)
    assert log.read_bytes() == content


def test_too_little_memory_is_told_with_its_step(tmp_path, monkeypatch):
    trainer = tiny_trainer(recipe(tmp_path))
    real = trainer.train_step

    def fail():
        if trainer.step == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return real()

    monkeypatch.setattr(trainer, "train_step", fail)
    with pytest.raises(TrainingError, match=r"^step 2: out of memory, with 8 rows at once .*\n.*run.micro_batch=4"):
        distil(trainer.config, trainer, prompts_digest="abc")


def test_a_folder_that_cannot_be_made_is_told_with_a_cure(tmp_path):
    (tmp_path / "file").touch()
    config = recipe(tmp_path, run={"folder": str(tmp_path / "file" / "run")})
    with pytest.raises(TrainingError, match=r"run.folder: .*Not a directory\nName another with --set run.folder"):
        run(config)


def test_a_checkpoint_of_more_processes_is_refused(tmp_path):
    """Sums in another order are not equal to the bit."""
    run(recipe(tmp_path), until=2)
    path = tmp_path / "run" / "checkpoints" / "step-000002" / "about.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"processes": 2}))
    with pytest.raises(TrainingError, match=r"made with processes 2, now 1.\nResume as it was made"):
        run(recipe(tmp_path), resume=True)


def test_a_folder_where_another_run_is_at_work_is_refused(tmp_path):
    config = recipe(tmp_path)

    def intrude(row):
        with pytest.raises(TrainingError, match=r"another run is at work here.\n.*run.folder"):
            run(config)

    run(config, report=intrude)
    assert [row["step"] for row in rows(config)] == [1, 2, 3, 4, 5, 6]


def test_a_checkpoint_made_with_other_prompts_is_refused(tmp_path):
    run(recipe(tmp_path), until=2)
    with pytest.raises(TrainingError, match=r"made with prompts 'abc', now 'xyz'"):
        run(recipe(tmp_path), resume=True, prompts="xyz")


def test_previews_show_both_teachers_and_the_student_of_the_same_noise(tmp_path):
    config = recipe(
        tmp_path,
        optimiser={"iterations": 2},
        run={"preview_every": 1, "preview_prompts": ["a cat", "a dog"], "preview_teacher_steps": 6},
    )
    shown = {}
    run(config, show=lambda step, pictures: shown.update({step: pictures}))
    assert shown.keys() == {1, 2}
    assert shown[1].shape == (3, 2, 32, 32, 3) and shown[1].dtype == np.uint8
    assert np.array_equal(shown[1][:2], shown[2][:2])  # the teachers do not learn


def test_making_previews_does_not_change_the_run(tmp_path):
    plain, shown = (
        recipe(tmp_path / "a"),
        recipe(tmp_path / "b", run={"preview_every": 1, "preview_prompts": ["a cat"]}),
    )
    run(plain)
    run(shown, show=lambda step, pictures: None)
    assert rows(plain) == rows(shown)
