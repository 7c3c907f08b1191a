"""What is refused before weights are loaded, on the shapes of published bases and on a base of this machine."""

from dataclasses import replace

import pytest
import torch

from tdm_core.backbones.shapes import network_shape
from tdm_core.errors import ConfigError
from tdm_core.training.checks import check_base, check_device
from tests.training.recipes import recipe

BASES = {
    "sd3": "stabilityai/stable-diffusion-3-medium-diffusers",
    "sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
    "pixart": "PixArt-alpha/PixArt-XL-2-512x512",
    "cogvideox": "THUDM/CogVideoX-2b",
}


@pytest.fixture(scope="module")
def networks():
    return {name: network_shape(path) for name, path in BASES.items()}


@pytest.fixture
def check(tmp_path, networks):
    def check(name, path=None, network=None, **keys):
        config = recipe(tmp_path, base={"path": path or BASES[name], **keys})
        check_base(config.base, network or networks[name])

    return check


@pytest.mark.parametrize("claimed", BASES)
@pytest.mark.parametrize("real", BASES)
def test_a_base_of_another_family_is_refused(check, real, claimed):
    if real == claimed:
        check(real, family=claimed)
        return
    with pytest.raises(ConfigError, match=rf"is no {claimed}: it has a .*\nMend base.family or base.path"):
        check(real, family=claimed)


def test_a_folder_of_another_family_is_refused_by_its_pipelines_name(check, tiny_system):
    path = str(tiny_system / "base")
    network = network_shape(path)
    check("sd3", path, network, family="sd3")
    with pytest.raises(ConfigError, match="is no pixart: it has a StableDiffusion3Pipeline"):
        check("sd3", path, network, family="pixart")


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("sd3", [1000, 1024], "multiples of 16"),
        ("sd15", [33, 32], "multiples of 8"),
        ("pixart", [512, 520], "multiples of 16"),
        ("sd3", [1024, 1024, 9], "makes pictures"),
        ("cogvideox", [720, 480], "has no frames"),
        ("cogvideox", [720, 481, 49], "multiples of 16 px"),
        ("cogvideox", [720, 480, 48], "up to 49 frames"),
    ],
)
def test_a_size_that_the_base_cannot_make_is_refused(check, name, size, message):
    with pytest.raises(ConfigError, match=f"base.size: .*{message}") as told:
        check(name, family=name, size=size)
    assert len(str(told.value).splitlines()) == 2 and "preset" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "size"), [("sd3", [1024, 768]), ("sdxl", [512, 768]), ("cogvideox", [720, 480, 49]), ("sd15", [])]
)
def test_a_size_that_the_base_can_make_passes(check, name, size):
    check(name, family=name, size=size)


def test_a_folders_autoencoder_says_how_large_its_latents_are(check, tiny_system):
    path = str(tiny_system / "base")
    network = network_shape(path)
    check("sd3", path, network, size=[48, 32])
    with pytest.raises(ConfigError, match=r"base.size: 33x32 px"):
        check("sd3", path, network, size=[33, 32])


def test_a_device_that_is_not_there_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    run = recipe(tmp_path, run={"device": "cuda"}).run
    with pytest.raises(ConfigError, match=r"run.device: cuda is not available.*\n.*run.device=cpu"):
        check_device(run)
    check_device(replace(run, device="auto"))
