"""The text cache: what comes out is what the encoders said, whoever asks, and damage is told."""

import pytest
import torch
from safetensors import safe_open

from tdm_core.backbones.sd3_training import SD3Training
from tdm_core.backbones.trainable import Conditioning
from tdm_core.errors import TrainingError
from tdm_core.training import text_cache
from tdm_core.training.prompts import text_from_cache
from tdm_core.training.text_cache import TextCache
from tests.tiny import TARGETS, tiny_pipeline

PROMPTS = ["", "a cat", "two dogs", "a cat and a dog", "a fox"]
ABOUT = {"base": "tiny"}


class Encoder:
    """Ragged text in the layout of a masked T5: prompt i has as many words, the rest is padding with junk in it."""

    def __init__(self, scale=1.0):
        self.scale, self.asked = scale, []

    def __call__(self, prompts):
        self.asked += prompts
        lengths = torch.tensor([max(1, len(prompt.split())) for prompt in prompts])
        mask = torch.arange(6) < lengths[:, None]
        tokens = torch.stack([torch.full((6, 3), float(len(prompt)) + 1) for prompt in prompts]) * self.scale
        return Conditioning(
            {"encoder_hidden_states": tokens, "encoder_attention_mask": mask.float(), "pooled": tokens[:, 0]}
        )


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(text_cache, "SHARD_ROWS", 2)


def masked(conditioning):
    tensors = dict(conditioning.tensors)
    tensors["encoder_hidden_states"] = tensors["encoder_hidden_states"] * tensors["encoder_attention_mask"][..., None]
    return tensors


def test_rows_come_back_as_they_were_but_for_what_is_masked(tmp_path):
    cache = TextCache.ready(tmp_path, Encoder(), PROMPTS, about=ABOUT)
    asked = ["a fox", "", "two dogs", "a fox"]
    expected, found = masked(Encoder()(asked)), cache.encode(asked).tensors
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_padding_is_not_stored(tmp_path):
    cache = TextCache.ready(tmp_path, Encoder(), PROMPTS, about=ABOUT)
    with safe_open(cache.folder / "shard-00000.safetensors", framework="pt") as file:
        assert file.get_tensor("encoder_hidden_states").shape == (1 + 2, 3)  # "" and "a cat", not 2 x 6


def test_padding_that_the_network_sees_is_kept(tmp_path):
    def encode(prompts):
        return Conditioning({"encoder_hidden_states": torch.ones(len(prompts), 6, 3)})

    cache = TextCache.ready(tmp_path, encode, PROMPTS, about=ABOUT)
    assert torch.equal(cache.encode(["a cat"]).tensors["encoder_hidden_states"], torch.ones(1, 6, 3))


def test_prompts_are_encoded_once(tmp_path):
    TextCache.ready(tmp_path, Encoder(), [*PROMPTS, "a cat"], about=ABOUT)
    again = Encoder()
    TextCache.ready(tmp_path, again, PROMPTS, about=ABOUT)
    assert again.asked == [""]  # one prompt, to see that these are the same encoders


@pytest.mark.parametrize("change", ["prompts", "about", "encoders"])
def test_other_prompts_settings_or_encoders_are_encoded_anew(tmp_path, change):
    TextCache.ready(tmp_path, Encoder(), PROMPTS, about=ABOUT)
    prompts = [*PROMPTS, "an owl"] if change == "prompts" else PROMPTS
    about = {"base": "other"} if change == "about" else ABOUT
    encoder = Encoder(scale=2.0 if change == "encoders" else 1.0)
    cache = TextCache.ready(tmp_path, encoder, prompts, about=about)
    assert encoder.asked[-len(prompts) :] == prompts
    assert torch.equal(cache.encode(["a cat"]).tensors["pooled"], encoder(["a cat"]).tensors["pooled"])


def test_an_encoding_that_breaks_off_leaves_nothing(tmp_path):
    def encode(prompts):
        raise OSError(28, "No space left on device")

    with pytest.raises(TrainingError, match=r"run.text_cache: .*No space left on device\n"):
        TextCache.ready(tmp_path, encode, PROMPTS, about=ABOUT)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_shard_says_so(tmp_path):
    cache = TextCache.ready(tmp_path, Encoder(), PROMPTS, about=ABOUT)
    shard = cache.folder / "shard-00001.safetensors"
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(TrainingError, match=r"shard-00001.*cannot be read.*\nDelete the folder"):
        cache.encode(["two dogs"])


def test_training_text_is_the_pipelines_and_the_encoders_are_gone(tmp_path):
    backbone = SD3Training(tiny_pipeline(), rank=2, alpha=2, targets=TARGETS, seed=0, max_sequence_length=0)
    prompts = ["a cat", "two dogs"]
    expected, empty = backbone.encode(prompts), backbone.encode([""])
    text = text_from_cache(backbone, prompts, previews=["a fox"], root=tmp_path, about=ABOUT)
    assert backbone.pipeline.text_encoder is None and backbone.pipeline.text_encoder_2 is None
    drawn = text.draw(6, torch.Generator().manual_seed(0), slice(1, None, 2))
    index = torch.randint(2, (6,), generator=torch.Generator().manual_seed(0))[1::2]
    for name, tensor in expected.tensors.items():
        torch.testing.assert_close(drawn.tensors[name], tensor[index])
        torch.testing.assert_close(text.uncond.tensors[name], empty.tensors[name])
    assert len(text.previews) == 1
