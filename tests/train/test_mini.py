"""From nothing to a published mini, at the smallest size: both programs, a second call, and a user's mistakes."""

import json

import pytest
import torch
from diffusers import CogVideoXPipeline, PixArtAlphaPipeline, StableDiffusion3Pipeline
from safetensors.torch import load_file

from train import mini, publish

CONFIG = "train/teachers/mini-sd3.toml"
TINY = [
    "autoencoder.steps=2",
    "autoencoder_shape.encoder_channels=[8, 8, 8, 16]",
    "autoencoder_shape.decoder_channels=[8, 8, 8, 16]",
    "text.width=16",
    "text.layers=2",
    "text.heads=2",
    "transformer.heads=2",
    "transformer.head_width=8",
    "transformer.layers=2",
    "text_training.steps=2",
    "training.steps=2",
    "training.batch_size=4",
    "training.chunk=8",
    "training.threads=1",
]


def options(out):
    return [part for key in (f"out={out}", *TINY) for part in ("--set", key)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("mini") / "run"
    assert mini.main([CONFIG, *options(out)]) == 0
    return out


def test_second_call_trains_no_further(made):
    before = (made / "teacher" / "checkpoint.pt").read_bytes()
    assert mini.main([CONFIG, *options(made)]) == 0
    assert (made / "teacher" / "checkpoint.pt").read_bytes() == before


def test_polish_changes_the_decoder_of_the_pipeline_too(made):
    before = (made / "pipeline" / "vae" / "diffusion_pytorch_model.safetensors").read_bytes()
    assert mini.main([CONFIG, "--polish", *options(made), "--set", "polishing.steps=2"]) == 0
    assert (made / "pipeline" / "vae" / "diffusion_pytorch_model.safetensors").read_bytes() != before


def test_published_folder_loads_with_plain_diffusers_and_says_how_it_scored(made, tmp_path, capsys):
    folder = tmp_path / "mini"
    assert publish.main([CONFIG, *options(made), "--score", "6", "--to", str(folder)]) == 0
    assert set(json.loads(capsys.readouterr().out)) >= {"overall", "minutes", "counting"}
    assert "| 6 |" in (folder / "README.md").read_text() and (folder / "score.svg").read_text().startswith("<svg")
    pipe = StableDiffusion3Pipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None)
    assert {p.dtype for p in pipe.text_encoder.parameters()} == {torch.float32}
    pipe.set_progress_bar_config(disable=True)
    assert pipe("a cat", num_inference_steps=1, max_sequence_length=0).images[0].size == (96, 96)


def test_training_goes_on_from_published_weights_alone(made, tmp_path):
    published = tmp_path / "published"
    assert publish.main([CONFIG, *options(made), "--to", str(published)]) == 0
    more = [*options(tmp_path / "more"), "--set", f"start={published}", "--set", "training.learning_rate=0.0"]
    more += ["--set", "text_training.steps=0"]
    assert mini.main([CONFIG, *more]) == 0
    for part in ("transformer", "text_encoder", "text_encoder_2"):
        first, then = (_weights(folder / part) for folder in (published, tmp_path / "more" / "pipeline"))
        assert first.keys() == then.keys()
        assert all(torch.allclose(first[name].float(), then[name].float()) for name in first)
    assert publish.main([CONFIG, *more, "--to", str(tmp_path / "again")]) == 0
    first, then = ((folder / "tokenizer" / "tokenizer.json").read_text() for folder in (published, tmp_path / "again"))
    assert first == then
    steps = [json.loads((folder / "training.json").read_text())["steps"] for folder in (published, tmp_path / "again")]
    assert steps == [2, 4]


def test_a_pixart_is_made_on_a_borrowed_autoencoder(made, tmp_path):
    config = ["train/teachers/mini-pixart.toml", *options(tmp_path / "run")]
    config += ["--set", f"borrowed_autoencoder={made / 'vae'}", "--set", "teacher_steps=2"]
    assert mini.main(config) == 0
    assert publish.main([*config, "--score", "6", "--to", str(tmp_path / "mini-pixart")]) == 0
    pipe = PixArtAlphaPipeline.from_pretrained(tmp_path / "mini-pixart")
    ours, borrowed = (_weights(folder / "vae") for folder in (tmp_path / "mini-pixart", made))
    assert all(torch.equal(ours[name], borrowed[name].bfloat16()) for name in borrowed)
    assert 'PixArtAlphaPipeline.from_pretrained("' in (tmp_path / "mini-pixart" / "README.md").read_text()
    assert pipe.transformer.config.out_channels == 2 * pipe.transformer.config.in_channels


def test_a_cogvideox_is_made_of_clips(tmp_path):
    levels = [f"autoencoder_shape.{side}_channels=[8, 8, 16]" for side in ("encoder", "decoder")]
    keys = [*levels, "stills.steps=2", "teacher_steps=2", "joint.batch_size=6", "joint.chunk=8"]
    changes = [part for key in keys for part in ("--set", key)]
    config = ["train/teachers/mini-cogvideox.toml", *options(tmp_path / "run"), *changes]
    assert mini.main(config) == 0
    assert publish.main([*config, "--score", "3", "--to", str(tmp_path / "mini-cogvideox")]) == 0
    card = (tmp_path / "mini-cogvideox" / "README.md").read_text()
    assert 'CogVideoXPipeline.from_pretrained("' in card and "text-to-video" in card
    assert "2 steps over 4 clips and 6 single frames" in card
    pipe = CogVideoXPipeline.from_pretrained(tmp_path / "mini-cogvideox")
    assert type(pipe.scheduler).__name__ == "CogVideoXDDIMScheduler" and pipe.scheduler.alphas_cumprod[-1] == 0
    assert pipe.transformer.config.max_text_seq_length == pipe.tokenizer.model_max_length == 18


def _weights(folder):
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["missing.toml"], "no such file"),
        ([CONFIG, "--set", "training.stepz=1"], "unknown key 'stepz'"),
    ],
)
@pytest.mark.parametrize("program", [mini, publish])
def test_mistakes_cost_two_lines_and_status_2(program, arguments, words, capsys):
    assert program.main(arguments) == 2
    message = capsys.readouterr().err
    assert words in message and len(message.splitlines()) <= 2


def test_publishing_before_training_says_what_to_run(tmp_path, capsys):
    assert publish.main([CONFIG, *options(tmp_path), "--to", str(tmp_path / "mini")]) == 2
    assert "run python -m train.mini first" in capsys.readouterr().err


def test_a_folder_of_something_else_is_not_replaced(made, tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("mine")
    assert publish.main([CONFIG, *options(made), "--to", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "thesis.txt").read_text() == "mine"
