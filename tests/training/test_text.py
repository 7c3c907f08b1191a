"""Text encoders learn what captions say, in the features that a transformer is told, and may keep the rest."""

import pytest
import torch
from torch import Tensor, nn

from tdm_core.training.text import TextConfig, TextFeatures, train_text

CONFIG = TextConfig(steps=300, batch_size=32, warmup_steps=5, learning_rate=1e-2)
WORDS = 4


class Encoder(nn.Module):
    """Token features, and a summary that at first knows no words."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(WORDS, 8)
        self.blocks = nn.ModuleList([nn.Linear(16, 16)])

    def forward(self, ids: Tensor) -> TextFeatures:
        tokens = self.words(ids)
        return TextFeatures(tokens, (self.blocks[0](tokens.flatten(1)).tanh(),))


def draw(seed: int, n: int) -> tuple[list[str], Tensor]:
    """Two words, and a fact of their order that no single word tells."""
    first, second = torch.randint(WORDS, (2, n), generator=torch.Generator().manual_seed(seed))
    return [f"{a}{b}" for a, b in zip(first.tolist(), second.tolist(), strict=True)], torch.stack(
        [first < second, first == second], dim=1
    )


def tokenize(captions: list[str]) -> Tensor:
    return torch.tensor([[int(letter) for letter in text] for text in captions])


def trained(anchored: bool) -> tuple[Encoder, list[dict[str, float]]]:
    encoder, rows = Encoder(), []
    train_text(CONFIG, encoder, lambda each, ids: each(ids), tokenize, draw, anchored=anchored, report=rows.append)
    return encoder, rows


@pytest.mark.parametrize("anchored", [False, True])
def test_captions_are_read_whole_after_training(anchored):
    _, rows = trained(anchored)
    assert [row["step"] for row in rows] == [50, 100, 150, 200, 250, 300]
    assert rows[-1]["captions_read_whole"] > 0.95 and rows[-1]["loss"] < rows[0]["loss"]


def test_an_anchor_keeps_the_tokens():
    ids = torch.arange(WORDS)[:, None].expand(-1, 2)
    start = Encoder()(ids).tokens
    moved = {anchored: (trained(anchored)[0](ids).tokens - start).norm() for anchored in (False, True)}
    assert moved[True] < 0.2 * moved[False]
