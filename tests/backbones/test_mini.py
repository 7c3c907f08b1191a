"""Untrained minis: stock classes that plain diffusers loads again."""

import pytest
import torch
from diffusers import StableDiffusion3Pipeline

from tdm_core.backbones import mini
from tdm_core.scenes.grammar import VOCABULARY

TEXT = mini.TextShape(width=16, layers=2, heads=2, max_tokens=12)
AUTOENCODER = mini.AutoencoderShape(encoder_channels=(8, 8, 8, 16), decoder_channels=(8, 8, 8, 16))
TRANSFORMER = mini.TransformerShape(heads=2, head_width=8, layers=2)


@pytest.fixture(scope="module")
def pipeline():
    torch.manual_seed(0)
    tokenizer = mini.build_tokenizer(VOCABULARY, TEXT.max_tokens)
    encoders = (mini.build_text_encoder(TEXT, tokenizer), mini.build_text_encoder(TEXT, tokenizer))
    transformer = mini.build_transformer(TRANSFORMER, TEXT, AUTOENCODER.latent_channels)
    for parameter in transformer.parameters():  # away from the zero output, so that every input matters
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    return mini.assemble(transformer, mini.build_autoencoder(AUTOENCODER), encoders, tokenizer)


def test_every_word_of_the_grammar_is_one_token(pipeline):
    lengths = {word: len(pipeline.tokenizer(word).input_ids) for word in VOCABULARY}
    assert set(lengths.values()) == {3}, lengths


def test_unknown_words_fall_back_to_smaller_pieces(pipeline):
    assert pipeline.tokenizer.decode(pipeline.tokenizer("a zebra").input_ids, skip_special_tokens=True) == "a zebra"


def test_network_starts_as_zero():
    transformer = mini.build_transformer(TRANSFORMER, TEXT, 8)
    output = transformer(
        hidden_states=torch.randn(2, 8, 12, 12),
        encoder_hidden_states=torch.randn(2, 12, 32),
        pooled_projections=torch.randn(2, 32),
        timestep=torch.tensor([10.0, 900.0]),
        return_dict=False,
    )[0]
    assert torch.count_nonzero(output) == 0


def test_training_sees_text_as_the_stock_pipeline_does(pipeline):
    prompts = ["a cat", "two foxes on a mint canvas"]
    embeds, _, pooled, _ = pipeline.encode_prompt(
        prompt=prompts, prompt_2=None, prompt_3=None, do_classifier_free_guidance=False, max_sequence_length=0
    )
    latents, t = torch.randn(2, 8, 12, 12), torch.tensor([0.3, 0.8])
    expected = pipeline.transformer(
        hidden_states=latents,
        encoder_hidden_states=embeds,
        pooled_projections=pooled,
        timestep=t * 1000,
        return_dict=False,
    )[0]
    ids = pipeline.tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    network = mini.SD3Network(pipeline.transformer, (pipeline.text_encoder, pipeline.text_encoder_2))
    torch.testing.assert_close(network(latents, t, ids), expected)


def test_saved_pipeline_loads_with_plain_diffusers_and_draws_the_same(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    loaded = StableDiffusion3Pipeline.from_pretrained(tmp_path, text_encoder_3=None, tokenizer_3=None)
    pictures = []
    for pipe in (pipeline, loaded):
        pipe.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(3)
        pictures.append(
            pipe("a cat", num_inference_steps=2, max_sequence_length=0, generator=generator, output_type="pt").images
        )
    assert pictures[0].shape == (1, 3, 96, 96)
    torch.testing.assert_close(*pictures)
