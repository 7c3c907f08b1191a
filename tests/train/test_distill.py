"""The command line of the trainer: what it writes, its exit status, its messages."""

import json
import signal
import subprocess
import sys

import pytest

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
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_mistakes_end_in_a_message_of_at_most_two_lines(recipe, tmp_path, capsys, arguments, status, message):
    arguments = [argument.format(recipe=recipe, folder=tmp_path) for argument in arguments]
    assert main(arguments) == status
    err = capsys.readouterr().err
    assert message in err and len(err.strip().splitlines()) <= 2


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
