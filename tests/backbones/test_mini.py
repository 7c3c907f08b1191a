"""Untrained minis: stock classes that plain diffusers loads again, trained on what the stock pipelines feed them."""

from dataclasses import replace

import pytest
import torch
from diffusers import CogVideoXPipeline, PixArtAlphaPipeline, StableDiffusion3Pipeline

from tdm_core.backbones import mini
from tdm_core.errors import ConfigError
from tdm_core.scenes.grammar import VOCABULARY

TEXT = mini.TextShape(width=16, layers=2, heads=2, max_tokens=12)
AUTOENCODER = mini.AutoencoderShape(encoder_channels=(8, 8, 8, 16), decoder_channels=(8, 8, 8, 16))
TRANSFORMER = mini.TransformerShape(heads=2, head_width=8, layers=2)
VIDEO_AUTOENCODER = replace(AUTOENCODER, encoder_layers=(1,) * 4, decoder_layers=(2,) * 4)
VIDEO_TRANSFORMER = replace(TRANSFORMER, patch_size=2, latent_size=8, latent_frames=9)
STOCK = {
    "sd3": lambda folder: StableDiffusion3Pipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None),
    "pixart": PixArtAlphaPipeline.from_pretrained,
    "cogvideox": CogVideoXPipeline.from_pretrained,
}
PROMPTS = ["a cat", "two foxes on a mint canvas"]


class Made:
    """One family's untrained mini: its network and the pipeline around it."""

    def __init__(self, name: str) -> None:
        torch.manual_seed(0)
        self.name, self.family, video = name, mini.family(name), name == "cogvideox"
        self.autoencoder = self.family.build_autoencoder(VIDEO_AUTOENCODER if video else AUTOENCODER)
        self.latents = (9, 8, 8, 8) if video else (8, 12, 12)
        self.pixels = (9, 64, 64, 3) if video else (96, 96, 3)
        transformer = VIDEO_TRANSFORMER if video else TRANSFORMER
        self.tokenizer = self.family.build_tokenizer(VOCABULARY, TEXT.max_tokens)
        self.network = self.family.build_network(transformer, TEXT, AUTOENCODER.latent_channels, self.tokenizer)
        self.starts_at = self.predict(torch.randn(2, *self.latents), torch.tensor([0.3, 0.8]))
        for parameter in self.network.parameters():  # away from the zero output, so that every input matters
            parameter.data.add_(0.05 * torch.randn_like(parameter))
        self.pipeline = self.family.assemble(self.network, self.autoencoder, self.tokenizer)

    @torch.no_grad()
    def predict(self, latents: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        ids = self.tokenizer(PROMPTS, padding="max_length", truncation=True, return_tensors="pt").input_ids
        return self.network(latents, t, ids)


@pytest.fixture(scope="module", params=STOCK)
def made(request):
    return Made(request.param)


def test_every_word_of_the_grammar_is_one_token(made):
    empty = len(made.tokenizer("").input_ids)
    lengths = {word: len(made.tokenizer(word).input_ids) - empty for word in VOCABULARY}
    assert set(lengths.values()) == {1}, lengths


def test_unknown_words_fall_back_to_smaller_pieces(made):
    assert made.tokenizer.decode(made.tokenizer("a zebra").input_ids, skip_special_tokens=True) == "a zebra"


def test_network_starts_as_zero(made):
    assert made.starts_at.shape == (2, *made.latents) and torch.count_nonzero(made.starts_at) == 0


def test_training_feeds_the_network_what_the_stock_pipeline_does(made):
    """The pipeline's own call at its first step, unguided: same latents, text and time, so the same output."""
    seen = []
    hook = made.pipeline.transformer.register_forward_hook(
        lambda module, args, kwargs, output: seen.append((*args, kwargs, output[0])), with_kwargs=True
    )
    made.pipeline.set_progress_bar_config(disable=True)
    made.family.draw(made.pipeline, PROMPTS, [1, 2], steps=2, guidance=1.0)
    hook.remove()
    *latents, kwargs, expected = seen[0]  # positional in one pipeline, named in the other
    times = torch.linspace(0, 1, 1001, dtype=torch.float64)
    t = times[(made.family.process().model_time(times) - kwargs["timestep"][0]).abs().argmin()].expand(2)
    found = made.predict(latents[0] if latents else kwargs["hidden_states"], t)
    torch.testing.assert_close(found, expected[:, : found.shape[1]], atol=1e-5, rtol=1e-4)


def test_saved_pipeline_loads_with_plain_diffusers_and_draws_the_same(made, tmp_path):
    made.pipeline.save_pretrained(tmp_path)
    pictures = []
    for pipeline in (made.pipeline, STOCK[made.name](tmp_path)):
        pipeline.set_progress_bar_config(disable=True)
        pictures.append(made.family.draw(pipeline, ["a cat"], [3], steps=2, guidance=3.0))
    assert pictures[0].shape == (1, *made.pixels)
    assert abs(pictures[0] - pictures[1]).max() < 1e-5


def test_autoencoder_gives_the_latents_that_the_network_takes(made):
    frames = made.pixels[:-3]  # none of a picture
    pixels = torch.rand(2, 3, *frames, *made.pixels[-3:-1]) * 2 - 1
    with torch.no_grad():
        assert made.family.encode(made.autoencoder, pixels).shape == (2, *made.latents)


def test_cogvideox_starts_at_zero_signal_and_ends_clean():
    process = mini.family("cogvideox").process()
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert process.alpha(ends).tolist() == [1, 0] and process.sigma(ends).tolist() == [0, 1]


def test_a_shape_that_no_cogvideox_autoencoder_has_is_refused():
    with pytest.raises(ConfigError, match="same channels both ways"):
        mini.family("cogvideox").build_autoencoder(AUTOENCODER)
