"""Bases and LoRAs that are missing, damaged or of another model: refused with the cure, never half-loaded."""

import shutil
from unittest.mock import Mock

import pytest
import torch
from diffusers import PixArtAlphaPipeline, StableDiffusion3Pipeline
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError
from safetensors.torch import load_file

from tdm_core.backbones import sd3
from tdm_core.backbones.base import Size, family, fetch_lora, load_pipeline
from tdm_core.backbones.lora import count_lora_layers
from tdm_core.backbones.schedulers import make_scheduler
from tdm_core.backbones.sd3 import decode, latent_shape
from tdm_core.backbones.system import LoraSettings, SideSettings, System
from tdm_core.errors import ConfigError, LoadError
from tests.tiny import TARGETS, change_lora, tiny_pipeline

LAYERS = 2 * len(TARGETS)  # two blocks


@pytest.fixture
def pipeline():
    return tiny_pipeline()


@pytest.fixture
def lora(tmp_path, tiny_system):
    """A copy of the LoRA file, to be damaged."""
    return shutil.copy(tiny_system / "lora" / "pytorch_lora_weights.safetensors", tmp_path / "lora.safetensors")


@pytest.fixture
def base(tmp_path, tiny_system):
    """A copy of the base, to be damaged."""
    return shutil.copytree(tiny_system / "base", tmp_path / "base")


def refusal(act):
    with pytest.raises((ConfigError, LoadError)) as caught:
        act()
    message = str(caught.value)
    assert len(message.splitlines()) <= 2
    return message


def load_student(pipeline, file, **settings):
    """The student's pipeline, on the SD3 of ``pipeline``."""
    system = System(sd3, pipeline, SideSettings(), device="cpu")
    system.add_student(file, LoraSettings(**settings), SideSettings())
    return system.pipeline(student=True)


def load_base(base):
    return load_pipeline(StableDiffusion3Pipeline, base, dtype=torch.float32, omit=("text_encoder_3", "tokenizer_3"))


@pytest.mark.parametrize("merge", [True, False])
def test_whole_lora_gives_a_student_and_leaves_the_teachers_base_weights(pipeline, lora, merge):
    before = pipeline.transformer.transformer_blocks[0].attn.to_q.weight.clone()
    student = load_student(pipeline, lora, merge=merge)
    assert count_lora_layers(student.transformer) == (0 if merge else LAYERS)
    assert (student.transformer is pipeline.transformer) is not merge
    assert torch.equal(
        pipeline.transformer.transformer_blocks[0].attn.to_q.get_parameter("weight" if merge else "base_layer.weight"),
        before,
    )


def test_strength_and_alpha_scale_the_merged_weights(pipeline, lora):
    full, half = (load_student(pipeline, lora, merge=True, strength=strength).transformer for strength in (1.0, 0.5))
    name = "transformer_blocks.0.attn.to_q"
    change = [
        model.get_submodule(name).weight - pipeline.transformer.get_submodule(name).weight for model in (full, half)
    ]
    torch.testing.assert_close(change[0], 2 * change[1])
    tensors = load_file(lora)
    expected = 2 * tensors[f"transformer.{name}.lora_B.weight"] @ tensors[f"transformer.{name}.lora_A.weight"]
    torch.testing.assert_close(change[0], expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda key: key.replace("transformer.", "unet."), "16 of its 16 weights do not fit this transformer: unet."),
        (lambda key: key.removeprefix("transformer."), "16 of its 16 weights do not fit"),
        (lambda key: key.replace("blocks.1", "blocks.9"), "8 of its 16 weights do not fit this transformer: "),
        (lambda key: key.replace(".lora_A.", ".lora_down."), "8 of its 16 weights do not fit"),
    ],
    ids=["other family", "no prefix", "more blocks", "other notation"],
)
def test_lora_with_other_names_is_refused_with_the_first_of_them(pipeline, lora, change, message):
    change_lora(lora, lambda tensors, metadata: ({change(key): tensors[key] for key in tensors}, metadata))
    assert message in refusal(lambda: load_student(pipeline, lora))
    assert count_lora_layers(pipeline.transformer) == 0


def test_lora_of_another_width_is_refused_with_its_shape(pipeline, lora):
    change_lora(lora, lambda tensors, metadata: ({key: tensors[key].repeat(2, 2) for key in tensors}, metadata))
    assert "lora_A.weight [8, 64]" in refusal(lambda: load_student(pipeline, lora))
    assert count_lora_layers(pipeline.transformer) == 0


@pytest.mark.parametrize("lost", ["blocks.1.attn.to_k", "blocks.0.attn.to_q.lora_A"], ids=["layer", "half a layer"])
def test_lora_with_missing_layers_is_refused(pipeline, lora, lost):
    change_lora(lora, lambda tensors, metadata: ({k: v for k, v in tensors.items() if lost not in k}, metadata))
    message = refusal(lambda: load_student(pipeline, lora))
    assert "weights for 1 of its 8 layers are missing: transformer_blocks." in message


def test_empty_lora_is_refused(pipeline, lora):
    change_lora(lora, lambda tensors, metadata: ({}, metadata))
    assert "it is empty" in refusal(lambda: load_student(pipeline, lora))


def test_missing_lora_is_refused(pipeline, tmp_path):
    assert "no such LoRA file" in refusal(lambda: load_student(pipeline, tmp_path / "none"))


@pytest.mark.parametrize("keep", [0, 7, 300, 4000])
def test_half_downloaded_lora_is_refused(pipeline, lora, keep):
    lora.write_bytes(lora.read_bytes()[:keep])
    assert "half-downloaded" in refusal(lambda: load_student(pipeline, lora))


def test_half_downloaded_base_is_refused_with_its_file(base):
    file = base / "transformer" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    message = refusal(lambda: load_base(base))
    assert str(file) in message and "half-downloaded" in message


@pytest.mark.parametrize(
    "lost",
    [
        "model_index.json",
        "transformer/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "tokenizer/tokenizer.json",
        "text_encoder_2",
    ],
)
def test_incomplete_base_is_refused(base, lost):
    (base / lost).rename(base / "elsewhere")
    assert str(base) in refusal(lambda: load_base(base))


def test_base_of_another_kind_is_refused(base):
    index = base / "model_index.json"
    index.write_text(index.read_text().replace("SD3Transformer2DModel", "NoSuchModel"))
    assert str(base) in refusal(lambda: load_base(base))


def test_base_of_another_family_is_refused_with_both_names(base):
    message = refusal(lambda: load_pipeline(PixArtAlphaPipeline, base, dtype=torch.float32))
    assert "is a StableDiffusion3Pipeline, and this family loads a PixArtAlphaPipeline" in message


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        (GatedRepoError("401", response=Mock()), "Accept its licence at https://huggingface.co/ai/sd3, then log in"),
        (RepositoryNotFoundError("401", response=Mock()), "Check its name, or log in"),
        (OSError(28, "No space left on device"), "Free some space, or set HF_HOME"),
        (TimeoutError("read timed out"), "the Hub does not answer.\nTry again later"),
        (EntryNotFoundError("404"), "the repository has no such file"),
    ],
    ids=["gated", "unknown", "full disk", "timeout", "no such file"],
)
@pytest.mark.parametrize("what", ["base", "LoRA"])
def test_hub_refusals_name_the_cure(monkeypatch, error, cure, what):
    def refuse(*_, **__):
        try:
            raise error
        except type(error) as cause:
            raise OSError("a long story\nof many lines") from cause

    monkeypatch.setattr("tdm_core.backbones.base.hf_hub_download", refuse)
    monkeypatch.setattr("tdm_core.backbones.base.list_repo_files", lambda _: ["lora.safetensors"])
    message = refusal(lambda: load_base("ai/sd3") if what == "base" else fetch_lora("ai/sd3", None))
    assert "ai/sd3" in message and cure in message


@pytest.mark.parametrize(
    ("files", "name", "found"),
    [
        (["README.md", "one.safetensors"], None, "one.safetensors"),
        (["tdm.pt"], None, "tdm.pt"),
        (["a.safetensors", "b.safetensors"], "b.safetensors", "b.safetensors"),
        (["sub/adapter_model.safetensors", "sub/adapter_config.json"], "sub/adapter_model.safetensors", None),
    ],
    ids=["only one", "pickle", "named", "in a folder"],
)
def test_lora_of_a_repository_is_the_named_file_or_its_only_one(monkeypatch, tmp_path, files, name, found):
    fetched = []
    monkeypatch.setattr("tdm_core.backbones.base.list_repo_files", lambda _: files)
    monkeypatch.setattr(
        "tdm_core.backbones.base.hf_hub_download", lambda _, file: fetched.append(file) or str(tmp_path / file)
    )
    assert fetch_lora("someone/lora", name) == tmp_path / (found or name)
    assert fetched == ([found] if found else ["sub/adapter_config.json", name])  # PEFT's alpha lies beside


def test_repository_with_several_loras_is_refused_with_their_names(monkeypatch):
    monkeypatch.setattr("tdm_core.backbones.base.list_repo_files", lambda _: ["a.safetensors", "b.pt"])
    assert "2 files that may be the LoRA: a.safetensors, b.pt" in refusal(lambda: fetch_lora("someone/lora", None))


def test_network_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = refusal(lambda: load_base("nobody/no-such-model"))
    assert "nobody/no-such-model" in message and "network" in message


def test_unknown_scheduler_is_refused(pipeline):
    assert "no such class" in refusal(lambda: make_scheduler(pipeline.scheduler, "MagicScheduler", {}))
    assert "nearest: 'DDIMScheduler'" in refusal(lambda: make_scheduler(pipeline.scheduler, "DDIMSheduler", {}))
    assert "no such class" in refusal(lambda: make_scheduler(pipeline.scheduler, "StableDiffusion3Pipeline", {}))


def test_scheduler_of_a_role_is_its_own(pipeline):
    own = make_scheduler(pipeline.scheduler, None, {"shift": 3.0})
    assert (own.config.shift, pipeline.scheduler.config.shift) == (3.0, 1.0)


def test_sizes_that_the_model_cannot_make_are_refused(pipeline):
    assert latent_shape(pipeline, Size(height=32, width=64)) == (16, 8, 16)
    assert "multiples of 8" in refusal(lambda: latent_shape(pipeline, Size(height=36, width=32)))


def test_decoding_rounds_as_the_stock_pipeline(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(3)
    options = {"num_inference_steps": 2, "max_sequence_length": 0, "generator": generator}
    latents = pipeline("a cat", output_type="latent", **options).images
    generator.manual_seed(3)
    images = pipeline("a cat", output_type="np", **options).images
    assert (decode(pipeline, latents) == (images * 255).round().astype("uint8")).all()


def test_family_knows_its_pipeline():
    assert family("sd3").Pipeline is StableDiffusion3Pipeline
