"""The minis' autoencoders: unit variance inside, and a decoder that can be trained on alone."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tdm_core.backbones import mini, mini_cogvideox
from tdm_core.backbones.mini import AutoencoderShape
from tdm_core.training.autoencoder import AutoencoderConfig, encode, inflate, polish, train

SHAPE = AutoencoderShape(
    latent_channels=4,
    encoder_channels=(8, 8, 8),
    decoder_channels=(8, 8, 8),
    encoder_layers=(0, 1, 1),
    decoder_layers=(0, 1, 1),
)
VIDEO_SHAPE = replace(SHAPE, encoder_layers=(1, 1, 1), decoder_layers=(2, 2, 2))
CONFIG = AutoencoderConfig(steps=101, minutes=5, batch_size=4, learning_rate=3e-3)


def discs(seed: int, n: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(n, 2, 1, 1, generator=generator) * 16
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    disc = ((y - centre[:, 0]) ** 2 + (x - centre[:, 1]) ** 2 < 16).float() * 2 - 1
    return disc[:, None].expand(-1, 3, -1, -1) * torch.tensor([1.0, 0.5, -0.5])[:, None, None]


def moving_discs(seed: int, n: int) -> Tensor:
    """Nine frames, a pixel further right in each."""
    still = discs(seed, n)
    return torch.stack([still.roll(frame, dims=-1) for frame in range(9)], dim=2)


@pytest.fixture(scope="module", params=["pictures", "clips"])
def trained(request):
    torch.manual_seed(0)
    video = request.param == "clips"
    model = mini_cogvideox.build_autoencoder(VIDEO_SHAPE) if video else mini.build_autoencoder(SHAPE)
    drawn = moving_discs if video else discs
    rows: list[dict[str, float]] = []
    train(replace(CONFIG, batch_size=2) if video else CONFIG, model, drawn, rows.append)
    return model, drawn, rows


@torch.no_grad()
def test_training_gives_latents_of_unit_variance_and_pictures_back(trained):
    model, drawn, rows = trained
    latents = encode(model, drawn(10**6, 64))
    others = (0, *range(2, latents.ndim))
    assert rows[-1]["psnr_db"] > rows[0]["psnr_db"] + 5
    assert latents.mean(dim=others).abs().max() < 0.5
    assert (latents.std(dim=others) - 1).abs().max() < 0.5


def test_polishing_leaves_the_latents_alone(trained):
    model, drawn, _ = trained
    pictures = drawn(10**6, 8)
    with torch.no_grad():
        latents = encode(model, pictures)
        decoded = model.decode(latents).sample
    polish(AutoencoderConfig(steps=10, batch_size=4), model, drawn, lambda row: None)
    with torch.no_grad():
        assert torch.equal(encode(model, pictures), latents)
        assert not torch.equal(model.decode(latents).sample, decoded)


@torch.no_grad()
def test_a_trained_clips_latents_are_sure(trained):
    """The stock encoder samples; what training never saw must not come in by that door."""
    model, drawn, _ = trained
    if drawn is moving_discs:
        assert model.encode(drawn(0, 2)).latent_dist.std.max() < 1e-4


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_single_frames_teach_an_autoencoder_of_clips(optimizer):
    """A clip's first frame, and with it the convolutions of both; Muon counts as much."""
    torch.manual_seed(0)
    model = mini_cogvideox.build_autoencoder(VIDEO_SHAPE)
    seen, rows = set(), []

    def watch(module, arguments):
        seen.add(arguments[0].shape[2])

    model.encoder.register_forward_pre_hook(watch)
    train(replace(CONFIG, frames=1, optimizer=optimizer), model, moving_discs, rows.append)
    assert seen == {1}
    assert rows[-1]["psnr_db"] > rows[0]["psnr_db"] + 5


@torch.no_grad()
def test_inflated_a_clip_is_coded_frame_by_frame():
    """A clip of equal frames as one of them, and a frame without those before it; norms see the clip as a whole."""
    torch.manual_seed(0)
    model = mini_cogvideox.build_autoencoder(VIDEO_SHAPE)
    frame = discs(0, 2)[:, :, None]
    alone = model.decode(encode(model, frame)).sample
    inflate(model)
    standing = model.decode(encode(model, frame.expand(-1, -1, 9, -1, -1))).sample
    assert (standing - alone).abs().max() < 1e-3
    moved = encode(model, moving_discs(0, 2))
    apart = encode(model, moving_discs(0, 2)[:, :, 3:4])[:, :, 0] - moved[:, :, 3]
    assert apart.square().mean().sqrt() < 0.4 * moved.std()
