"""LoRA files in every released notation: all of them mean the same change of the same layers, or are refused."""

import json
import os

import pytest
import torch
from safetensors.torch import save_file

from tdm_core.backbones.lora import add_lora, change, count_lora_layers, fold_lora, switch_role
from tdm_core.backbones.lora_file import LoraLayer, TensorList, read_lora
from tdm_core.errors import ConfigError, LoadError
from tests import tiny_systems as tiny

ALPHA = 3.0
LIST = TensorList(rank=tiny.RANK, alpha=ALPHA, targets=tiny.UNET)


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return tiny.sdxl().unet


@pytest.fixture(scope="module")
def lora():
    return tiny.random_lora(tiny.sdxl().unet, tiny.UNET)


def old_diffusers(lora):
    """``unet.<layer>.lora.down.weight``, and attention layers under their processor."""
    renamed = {}
    for name, tensor in lora.items():
        layer, side = name.split(".lora_")
        end = "down" if side[0] == "A" else "up"
        block, _, part = layer.partition(".attn")
        if part:
            attention, _, target = part.partition(".")
            target = target.removesuffix(".0")
            renamed[f"unet.{block}.attn{attention}.processor.{target}_lora.{end}.weight"] = tensor
        else:
            renamed[f"unet.{layer}.lora.{end}.weight"] = tensor
    return renamed


def sgm(lora):
    """kohya's notation with the layer names of Stability's own code, for a UNet of three levels of two layers."""
    blocks = {"mid_block_attentions_0": "middle_block_1"}
    for level in (0, 1, 2):
        for layer in (0, 1, 2):
            blocks[f"down_blocks_{level}_attentions_{layer}"] = f"input_blocks_{1 + 3 * level + layer}_1"
            blocks[f"up_blocks_{level}_attentions_{layer}"] = f"output_blocks_{3 * level + layer}_1"
    renamed = {}
    for key, tensor in tiny.as_kohya(lora, ALPHA).items():
        (place,) = (block for block in blocks if key.startswith(f"lora_unet_{block}_"))
        renamed[key.replace(place, blocks[place])] = tensor
    return renamed


def write(folder, notation, lora):
    """Write a LoRA in a notation; returns the file, and the scale that it should come to."""
    file = folder / "lora.safetensors"
    kept = ALPHA / tiny.RANK
    if notation == "PEFT folder":
        return tiny.save_peft_folder(lora, folder, tiny.UNET, alpha=ALPHA), kept
    if notation == "tensor list":
        torch.save(tiny.as_tensor_list(lora), folder / "lora.ckpt")
        return folder / "lora.ckpt", kept
    if notation == "kohya pickle":
        torch.save(tiny.as_kohya(lora, ALPHA), folder / "lora.pt")
        return folder / "lora.pt", kept
    if notation == "pickle by another name":
        torch.save(tiny.as_kohya(lora, ALPHA), file)
        return file, kept
    if notation == "diffusers with metadata":
        adapter = {"unet.r": tiny.RANK, "unet.lora_alpha": ALPHA, "unet.target_modules": list(tiny.UNET)}
        save_file(tiny.as_diffusers(lora, "unet"), file, metadata={"lora_adapter_metadata": json.dumps(adapter)})
        return file, kept
    tensors, scale = {
        "diffusers": (tiny.as_diffusers(lora, "unet"), 1.0),
        "diffusers, old": (old_diffusers(lora), 1.0),
        "kohya": (tiny.as_kohya(lora, ALPHA), kept),
        "kohya, Stability's names": (sgm(lora), kept),
    }[notation]
    save_file(tensors, file)
    return file, scale


NOTATIONS = [
    "diffusers",
    "diffusers with metadata",
    "diffusers, old",
    "kohya",
    "kohya, Stability's names",
    "kohya pickle",
    "pickle by another name",
    "PEFT folder",
    "tensor list",
]


@pytest.mark.parametrize("notation", NOTATIONS)
def test_every_notation_means_the_same_layers(unet, lora, tmp_path, notation):
    file, scale = write(tmp_path, notation, lora)
    layers = read_lora(file, unet, prefix="unet", tensor_list=LIST)
    assert {f"{name}.lora_A.weight" for name in layers} == {name for name in lora if "lora_A" in name}
    for name, layer in layers.items():
        assert torch.equal(layer.a, lora[f"{name}.lora_A.weight"])
        assert torch.equal(layer.b, lora[f"{name}.lora_B.weight"])
        assert layer.scale == pytest.approx(scale)


def test_lora_beside_the_weights_and_folded_in_are_one_network(lora, tmp_path):
    torch.manual_seed(0)
    network = tiny.sd15().unet  # its projections are convolutions
    layers = read_lora(*_saved(tmp_path, tiny.random_lora(tiny.sd15().unet, tiny.UNET)), network, prefix="unet")
    x, text = torch.randn(1, 4, 8, 8), torch.randn(1, 5, tiny.WIDTH)
    with torch.no_grad():
        before = network(x, 500, text).sample
        folded = fold_lora(network, layers, strength=0.5)(x, 500, text).sample
        add_lora(network, layers, strength=0.5)
        assert count_lora_layers(network) == len(layers)
        torch.testing.assert_close(network(x, 500, text).sample, folded, atol=1e-5, rtol=1e-5)
        assert (folded - before).abs().max() > 1e-3
        switch_role(network, student=False)
        assert torch.equal(network(x, 500, text).sample, before)
        switch_role(network, student=True)
        torch.testing.assert_close(network(x, 500, text).sample, folded, atol=1e-5, rtol=1e-5)


def _saved(folder, lora):
    save_file(tiny.as_kohya(lora, ALPHA), folder / "lora.safetensors")
    return (folder / "lora.safetensors",)


def test_change_of_a_convolution_is_that_of_two_convolutions():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3, padding=1, bias=False))
    down, up = torch.randn(2, 3, 3, 3), torch.randn(5, 2, 1, 1)
    x = torch.randn(1, 3, 6, 6)
    expected = torch.conv2d(torch.conv2d(x, down, padding=1), up)
    found = torch.conv2d(x, change(LoraLayer(down, up, None)), padding=1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert network[0].weight.shape == change(LoraLayer(down, up, None)).shape


class Evil:
    def __reduce__(self):
        return os.system, ("true",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda lora: {"weights": Evil()}, "holds more than weights"),
        (lambda lora: {"epoch": 3}, "neither named weights nor a list"),
        (lambda lora: list(lora.values())[:-2], r"holds \d+ tensors, but \d+ layers of this base need"),
        (lambda lora: list(lora.values())[::-1], "do not fit"),
        (lambda lora: {**tiny.as_kohya(lora, 1.0), "lora_te_text_model_0.alpha": torch.tensor(1.0)}, "lora_te_text"),
    ],
    ids=["program", "no weights", "too few tensors", "other order", "text encoder"],
)
def test_file_that_does_not_fit_in_full_is_refused(unet, lora, tmp_path, content, message):
    torch.save(content(lora), tmp_path / "lora.pt")
    with pytest.raises((ConfigError, LoadError), match=message) as refusal:
        read_lora(tmp_path / "lora.pt", unet, prefix="unet", tensor_list=LIST)
    assert len(str(refusal.value).splitlines()) <= 2


@pytest.mark.parametrize("keep", [0, 40, 3000])
def test_half_downloaded_pickle_is_refused(unet, lora, tmp_path, keep):
    file = tmp_path / "lora.pt"
    torch.save(tiny.as_kohya(lora, ALPHA), file)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(LoadError, match="half-downloaded"):
        read_lora(file, unet, prefix="unet")


def test_list_without_a_description_is_refused_with_the_cure(unet, lora, tmp_path):
    torch.save(tiny.as_tensor_list(lora), tmp_path / "lora.ckpt")
    with pytest.raises(ConfigError, match=r"\[student.tensor_list\] with rank, alpha and targets"):
        read_lora(tmp_path / "lora.ckpt", unet, prefix="unet")
