"""The command line of the trainer: what it writes, its exit status, its messages."""

import json
import signal
import subprocess
import sys

import huggingface_hub
import pytest
import torch

from tests.training.hub import REPOSITORY, TOKEN, serving
from tests.training.recipes import PROMPTS
from train.distill import main

RECIPE = """
title = "tiny"
[base]
path = "{base}"
[prompts]
file = "{folder}/prompts.txt"
[lora]
rank = 2
alpha = 4
targets = ["attn.to_q", "ff.net.2"]
[optimiser]
iterations = 3
batch_size = 4
warmup_iterations = 0
[run]
folder = "{folder}/run"
threads = 1
text_cache = "{folder}/text"
preview_every = 2
preview_prompts = ["a cat", "a dog"]
preview_teacher_steps = 3
[export]
folder = "{folder}/student"
"""


@pytest.fixture
def recipe(tmp_path, tiny_system):
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(base=tiny_system / "base", folder=tmp_path))
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
    return path


def test_a_run_leaves_log_checkpoint_previews_and_student(recipe, tmp_path, capsys):
    assert main([str(recipe)]) == 0
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 3
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000003"]
    assert [path.name for path in (tmp_path / "run" / "previews").iterdir()] == ["step-000002.png"]
    assert (tmp_path / "student" / "pytorch_lora_weights.safetensors").is_file()
    assert json.loads((tmp_path / "student" / "recipe.json").read_text())["optimiser"]["iterations"] == 3
    assert "after 3 iterations" in capsys.readouterr().out


def test_the_program_keeps_the_libraries_chatter_off_stderr(recipe):
    command = [sys.executable, "-m", "train.distill", recipe, "--set", "run.preview_every=0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "step 3/3" in done.stdout


def test_a_dry_run_prints_recipe_and_estimate_and_touches_nothing(recipe, tmp_path, capsys):
    before = sorted(tmp_path.iterdir())
    assert main([str(recipe), "--dry-run", "--set", "optimiser.iterations=70"]) == 0
    out = capsys.readouterr().out
    assert '"iterations": 70' in out and '"hash"' in out
    assert '"evaluations_per_row": 10.5' in out  # 1.5 to roll out, 3 + 3 with backward, teacher 2, fake 1
    assert sorted(tmp_path.iterdir()) == before


def test_ctrl_c_ends_the_run_whole_and_resume_finishes_it(recipe, tmp_path, capsys, monkeypatch):
    import train.distill as entry

    real = entry.save_grid

    def interrupt(path, pictures):
        real(path, pictures)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(entry, "save_grid", interrupt)
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert main([str(recipe)]) == 1
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert "stopped after step 2" in capsys.readouterr().err
    assert main([str(recipe), "--resume"]) == 0
    assert "after 3 iterations" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "the following arguments are required: config"),
        (["{recipe}", "--fast"], 2, "unrecognized arguments: --fast"),
        (["{folder}/missing.toml"], 2, "missing.toml: no such file"),
        (["{recipe}", "--set", "optimiser.speed=1"], 2, "unknown key 'speed'"),
        (["{recipe}", "--set", "nonsense"], 2, "write it as section.key=value"),
        (["{recipe}", "--set", "prompts.file=nowhere.txt"], 2, "prompts.file: nowhere.txt: No such file"),
        (["{recipe}", "--set", 'lora.targets=["attn.to_z"]'], 2, "'attn.to_z' is no layer"),
        (["{recipe}", "--set", "base.path={folder}"], 1, "no model_index.json"),
        (["{recipe}", "--set", "base.path={folder}", "--dry-run"], 1, "has no transformer or unet"),
        (["{recipe}", "--set", "run.folder={folder}/prompts.txt"], 1, "File exists"),
        (["{recipe}", "--set", "run.device=cuda"], 2, "run.device: cuda is not available"),
        (["{recipe}", "--set", "trajectory.told=both"], 1, "trajectory.told: a student that is told"),
        (["{recipe}", "--set", "trajectory.told=both", "--dry-run"], 1, "trajectory.told: a student that is told"),
        (["{recipe}", "--set", "base.family=pixart", "--dry-run"], 2, "is no pixart"),
        (["{recipe}", "--set", "base.family=pixart"], 2, "is no pixart"),
        (["{recipe}", "--set", "base.size=[33,32]", "--dry-run"], 2, "base.size: 33x32 px"),
        (["{recipe}", "--set", "base.size=[33,32]"], 2, "base.size: 33x32 px"),
        (["train/configs/mini-cogvideox-tdm.toml", "--set", "base.size=[64,64]", "--dry-run"], 2, "has no frames"),
        (["{recipe}", "--set", "optimiser.student_lr=nan", "--dry-run"], 2, "got student_lr nan"),
        (["{recipe}", "--set", "export.folder={base}"], 1, "holds a whole pipeline"),
        (["{recipe}", "--set", "export.folder={folder}/prompts.txt"], 1, "is a file"),
        # The shipped student, in reach of anybody who tries another seed.
        (
            ["train/configs/mini-sd3-tdm.toml", "--set", "seed=1", "--set", "run.folder={folder}/x"],
            1,
            "or pass --replace",
        ),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_mistakes_end_in_a_message_of_at_most_two_lines(
    recipe, tmp_path, tiny_system, capsys, monkeypatch, arguments, status, message
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    places = {"recipe": recipe, "folder": tmp_path, "base": tiny_system / "base"}
    assert main([argument.format(**places) for argument in arguments]) == status
    err = capsys.readouterr().err
    assert message in err and len(err.strip().splitlines()) <= 2 and "preset" not in err
    assert not (tmp_path / "run").exists() and not (tmp_path / "student").exists()


def test_another_recipes_student_is_replaced_only_if_asked(recipe, tmp_path, capsys):
    quick = [str(recipe), "--set", "run.preview_every=0"]
    assert main(quick) == 0
    other = [*quick, "--set", "seed=1", "--set", f"run.folder={tmp_path}/other"]
    before = {path.name: path.read_bytes() for path in (tmp_path / "student").iterdir()}
    capsys.readouterr()
    assert main(other) == 1
    assert "holds the student of another recipe" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()  # told before the training
    assert {path.name: path.read_bytes() for path in (tmp_path / "student").iterdir()} == before
    assert main([*quick, "--resume"]) == 0  # its own once more
    assert main([*other, "--replace"]) == 0
    assert json.loads((tmp_path / "student" / "recipe.json").read_text())["seed"] == 1


def test_a_base_that_does_not_fit_into_memory_is_told_with_the_cures(recipe, capsys, monkeypatch):
    import train.distill as entry

    def fail(_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(entry, "load_backbone", fail)
    assert main([str(recipe)]) == 1
    err = capsys.readouterr().err
    assert "loading the base: out of memory" in err and "run.micro_batch=2" in err
    assert len(err.strip().splitlines()) == 2


@pytest.fixture
def hub(monkeypatch):
    with serving() as server:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


def test_push_uploads_the_finished_student(recipe, tmp_path, hub, capsys):
    assert main([str(recipe), "--push", REPOSITORY]) == 0
    assert hub.files == {path.name: path.read_bytes() for path in (tmp_path / "student").iterdir()}
    assert f"pushed to {hub.address}/{REPOSITORY}/commit/abc" in capsys.readouterr().out


def test_push_tells_a_refused_token_before_it_trains(recipe, tmp_path, hub, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrongwrong")
    assert main([str(recipe), "--push", REPOSITORY]) == 1
    err = capsys.readouterr().err
    assert "hf auth login" in err and "hf_wrong" not in err and len(err.strip().splitlines()) == 2
    assert not (tmp_path / "run").exists()


def test_a_push_that_fails_can_be_made_good_later(recipe, tmp_path, hub, capsys):
    hub.refuses_commits = True
    assert main([str(recipe), "--push", REPOSITORY]) == 1
    assert "can be pushed later" in capsys.readouterr().err
    assert (tmp_path / "student" / "pytorch_lora_weights.safetensors").is_file() and not hub.files
    hub.refuses_commits = False
    assert main([str(recipe), "--resume", "--push", REPOSITORY]) == 0
    assert hub.files.keys() == {path.name for path in (tmp_path / "student").iterdir()}


def test_a_second_run_into_the_same_folder_is_refused(recipe, capsys):
    assert main([str(recipe)]) == 0
    assert main([str(recipe)]) == 1
    assert "holds a run already" in capsys.readouterr().err


def test_scene_prompts_ask_for_nothing_of_the_suite(recipe):
    from tdm_core.scenes.grammar import meaning, parse
    from tdm_core.scenes.suite import held_out
    from tdm_core.training.config import DistillConfig
    from train.distill import load_prompts

    config = DistillConfig.read(recipe, ["prompts={scenes=500}"])
    prompts = load_prompts(config)
    assert prompts == load_prompts(config) and len(prompts) == 500
    assert not {meaning(parse(prompt)) for prompt in prompts} & held_out()
