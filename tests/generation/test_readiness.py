"""Whether a system can run here, told without trying: each reason with its cure."""

import json
from dataclasses import replace

import pytest

from tdm_core.generation.presets import SHIPPED, load_presets
from tdm_core.generation.readiness import Machine, missing_parts, reasons

PRESETS = load_presets([SHIPPED])


@pytest.fixture
def cached(tmp_path):
    """A whole base of the Hub as its cache keeps it: links to blobs."""
    folder = tmp_path / "snapshot"
    parts = {"text_encoder": "transformers", "tokenizer": "transformers", "unet": "diffusers", "vae": "diffusers"}
    index = {"_class_name": "StableDiffusionPipeline", "safety_checker": [None, None]}
    for name, library in parts.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text("{}")
        index[name] = [library, "Any"]
        if name != "tokenizer":
            blob = tmp_path / f"blob-{name}"
            blob.write_bytes(b"weights")
            (folder / name / "model.safetensors").symlink_to(blob)
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture
def cache(cached, tmp_path):
    """The cache with the base, a VAE and two LoRAs in it: repository -> folder."""
    for name, files in {
        "vae": ("config.json", "diffusion_pytorch_model.safetensors"),
        "lora": ("tdm_dreamshaper.pt",),
        "only": ("any.safetensors",),
    }.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_text("{}")
    return {
        "SG161222/Realistic_Vision_V5.1_noVAE": cached,
        "Lykon/dreamshaper-7": cached,
        "stabilityai/sd-vae-ft-mse": tmp_path / "vae",
        "Luo-Yihong/TDM_dreamshaper_LoRA": tmp_path / "lora",
        "someone/only-one": tmp_path / "only",
    }


def gpu(snapshot=lambda repository, revision: None, **changes):
    facts = {"device": "cuda", "device_gb": 80.0, "memory_gb": 64.0, "disk_gb": 500.0, "logged_in": True}
    return Machine(**facts | {"snapshot": snapshot} | changes)


@pytest.mark.parametrize("name", ["tdm-dreamshaper-7", "tdm-realistic-vision"])
def test_whole_cache_on_a_large_gpu_is_ready(cache, name):
    assert reasons(PRESETS[name], gpu(lambda repository, revision: cache[repository])) == []


@pytest.mark.parametrize(
    ("lost", "told"),
    [
        ("lora/tdm_dreamshaper.pt", "Luo-Yihong/TDM_dreamshaper_LoRA (tdm_dreamshaper.pt)"),
        ("vae/diffusion_pytorch_model.safetensors", "stabilityai/sd-vae-ft-mse (its weights)"),
        ("vae/config.json", "stabilityai/sd-vae-ft-mse (its weights)"),
    ],
)
def test_lora_file_or_vae_that_is_not_in_the_cache_is_named(cache, tmp_path, lost, told):
    (tmp_path / lost).unlink()
    machine = gpu(lambda repository, revision: cache[repository])
    assert reasons(PRESETS["tdm-realistic-vision"], machine) == [f"needs a download of {told}"]


def test_lora_without_a_name_is_any_file_of_weights(cache, tmp_path):
    preset = PRESETS["tdm-dreamshaper-7"]
    preset = replace(preset, student=replace(preset.student, lora="someone/only-one", file=None))
    machine = gpu(lambda repository, revision: cache[repository])
    assert reasons(preset, machine) == []
    (tmp_path / "only" / "any.safetensors").unlink()
    assert reasons(preset, machine) == ["needs a download of someone/only-one (the LoRA file)"]


def test_mini_is_ready_anywhere():
    assert reasons(PRESETS["mini-sd3"], gpu(device="cpu", device_gb=2.0, memory_gb=2.0, logged_in=False)) == []


@pytest.mark.parametrize(
    ("preset", "machine", "told"),
    [
        ("tdm-cogvideox-2b", {}, ["needs a download of zai-org/CogVideoX-2b, Luo-Yihong/", "13.8 GB"]),
        ("tdm-cogvideox-2b", {"disk_gb": 5.0}, ["5 GB of disk are free: free some, or set HF_HOME"]),
        ("tdm-cogvideox-2b", {"offline": True}, ["HF_HUB_OFFLINE is set: unset it"]),
        ("tdm-cogvideox-2b", {"device_gb": 8.0}, ["needs 13.8 GB on the GPU; 8 are free: set TDM_OFFLOAD=model"]),
        ("tdm-cogvideox-2b", {"device": "cpu"}, ["made for a GPU (float16)"]),
        ("tdm-sd3", {"logged_in": False}, ["gated: accept the licence at https://huggingface.co/stabilityai/"]),
        ("pixart-512", {}, ["its student is not in runs/tdm-pixart-512 yet: distil one"]),
        (
            "tdm-cogvideox-2b",
            {"device_gb": 8.0, "memory_gb": 6.0, "offload": "model"},
            ["needs 13.8 GB of main memory to offload to; 6 are free"],
        ),
    ],
)
def test_reason_names_what_is_lacking_and_its_cure(preset, machine, told):
    text = "; ".join(reasons(PRESETS[preset], gpu(**machine)))
    assert all(part in text for part in told), text


def test_offloading_needs_less_of_the_gpu():
    told = "; ".join(reasons(PRESETS["tdm-cogvideox-2b"], gpu(device_gb=8.0, offload="model")))
    assert "on the GPU" not in told


def test_nobody_is_sent_to_the_licence_who_is_logged_in():
    assert "gated" not in "; ".join(reasons(PRESETS["tdm-sd3"], gpu()))


@pytest.mark.parametrize("lost", ["unet", "text_encoder"])
def test_deleted_file_of_the_cache_is_named(cached, lost):
    (cached.parent / f"blob-{lost}").unlink()
    assert missing_parts(cached) == [lost]
    told = reasons(PRESETS["tdm-dreamshaper-7"], gpu(lambda repository, revision: cached))
    assert f"needs a download of Lykon/dreamshaper-7 ({lost})" in told[0]


def test_missing_shard_is_named(cached):
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (cached / "unet" / "model.safetensors.index.json").write_text(json.dumps(index))
    (cached / "unet" / "model-1.safetensors").write_bytes(b"weights")
    assert missing_parts(cached) == ["unet"]
    (cached / "unet" / "model-2.safetensors").write_bytes(b"weights")
    assert missing_parts(cached) == []


def test_broken_preset_is_told_before_all_else(tmp_path):
    preset = replace(PRESETS["tdm-sd3"], base="no folder/at/all")
    (told,) = reasons(preset, gpu())
    assert "base: no such folder" in told


def test_shipped_presets_are_complete():
    """Licence, source, example, size and memory: what a card shows."""
    for name, preset in PRESETS.items():
        assert preset.problems() == {}, name
        assert preset.licence and preset.licence_url.startswith("https://") and preset.examples and preset.notes, name
        if not name.startswith("mini-"):
            assert preset.memory_gb and preset.sources, name
