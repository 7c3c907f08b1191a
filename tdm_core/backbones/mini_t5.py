"""The T5 of the minis that read one: a tokenizer of whole words and a small encoder."""

from __future__ import annotations

import string
from collections.abc import Iterable

import torch
from torch import Tensor
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from tdm_core.backbones.mini import TextShape


def build_tokenizer(vocabulary: Iterable[str], max_tokens: int) -> T5Tokenizer:
    """A T5 tokenizer with one piece for each word of the vocabulary, and letters for any other word."""
    words = {f"\u2581{word}": -1.0 for word in sorted(vocabulary)}
    letters = dict.fromkeys(("\u2581", *string.ascii_lowercase, *string.digits, *",.'-"), -8.0)
    special = dict.fromkeys(("<pad>", "</s>", "<unk>"), 0.0)
    return T5Tokenizer(vocab=list((special | letters | words).items()), extra_ids=0, model_max_length=max_tokens)


def build_text_encoder(shape: TextShape, tokenizer: T5Tokenizer) -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=shape.width,
            d_kv=shape.width // shape.heads,
            d_ff=4 * shape.width,
            num_layers=shape.layers,
            num_heads=shape.heads,
            dropout_rate=0.0,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def end_token(tokens: Tensor, token_ids: Tensor, pad_token_id: int) -> Tensor:
    """The feature of each caption's last token that is not padding: [B, L, D], [B, L] -> [B, D]."""
    last = (token_ids != pad_token_id).sum(dim=1) - 1
    return tokens[torch.arange(len(tokens)), last]
