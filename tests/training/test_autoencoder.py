"""The mini's autoencoder: unit variance inside, and a decoder that can be trained on alone."""

import pytest
import torch
from torch import Tensor

from tdm_core.backbones.mini import AutoencoderShape, build_autoencoder
from tdm_core.training.autoencoder import AutoencoderConfig, polish, train

SHAPE = AutoencoderShape(
    latent_channels=4,
    encoder_channels=(8, 8, 8),
    decoder_channels=(8, 8, 8),
    encoder_layers=(0, 1, 1),
    decoder_layers=(0, 1, 1),
)
CONFIG = AutoencoderConfig(steps=101, minutes=5, batch_size=4, learning_rate=3e-3)


def discs(seed: int, n: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(n, 2, 1, 1, generator=generator) * 16
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    disc = ((y - centre[:, 0]) ** 2 + (x - centre[:, 1]) ** 2 < 16).float() * 2 - 1
    return disc[:, None].expand(-1, 3, -1, -1) * torch.tensor([1.0, 0.5, -0.5])[:, None, None]


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    model = build_autoencoder(SHAPE)
    rows: list[dict[str, float]] = []
    train(CONFIG, model, discs, rows.append)
    return model, rows


def test_training_gives_latents_of_unit_variance_and_pictures_back(trained):
    model, rows = trained
    with torch.no_grad():
        latents = model.encode(discs(10**6, 64)).latent
    assert rows[-1]["psnr_db"] > rows[0]["psnr_db"] + 5
    assert latents.mean(dim=(0, 2, 3)).abs().max() < 0.5
    assert (latents.std(dim=(0, 2, 3)) - 1).abs().max() < 0.5


def test_polishing_leaves_the_latents_alone(trained):
    model, _ = trained
    pictures = discs(10**6, 8)
    with torch.no_grad():
        latents, decoded = model.encode(pictures).latent, model.decode(model.encode(pictures).latent).sample
    polish(AutoencoderConfig(steps=10, batch_size=4), model, discs, lambda row: None)
    with torch.no_grad():
        assert torch.equal(model.encode(pictures).latent, latents)
        assert not torch.equal(model.decode(latents).sample, decoded)
