"""A whole system at the smallest size, of the real classes with random weights: base, student LoRA, preset file."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

PRESET = "tiny"
SIZE_PX = 32
SIGMAS = {"2": [1.0, 0.6], "4": [1.0, 0.818, 0.6, 0.333]}
TARGETS = ["attn.to_q", "attn.to_k", "attn.to_v", "ff.net.2"]
PRESET_FILE = """
title = "Tiny random SD3"
family = "sd3"
base = "{folder}/base"
omit = ["text_encoder_3", "tokenizer_3"]
licence = "none"
width = {size}
height = {size}
max_sequence_length = 0
[teacher]
steps = 10
guidance_scale = 3.0
grid = "uniform"
[student]
lora = "{folder}/lora"
steps = 4
merge = {merge}
[[examples]]
prompt = "a cat"
seed = 1
"""


def save_tiny_system(folder: Path) -> Path:
    """Write ``base``, ``lora`` and ``presets/{tiny,unmerged}.toml``; returns the presets' folder."""
    pipeline = tiny_pipeline()
    pipeline.save_pretrained(folder / "base")
    save_tiny_lora(pipeline.transformer, folder / "lora")
    presets = folder / "presets"
    presets.mkdir()
    for name, merge in ((PRESET, "true"), ("unmerged", "false")):
        (presets / f"{name}.toml").write_text(PRESET_FILE.format(folder=folder, size=SIZE_PX, merge=merge))
    return presets


def tiny_pipeline() -> StableDiffusion3Pipeline:
    """A stock pipeline without T5: 32 px, latents 16 x 8 x 8."""
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    autoencoder = AutoencoderTiny(
        encoder_block_out_channels=(16, 16, 16),
        decoder_block_out_channels=(16, 16, 16),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
        latent_channels=16,
        shift_factor=0.0,
    )
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=64,
        caption_projection_dim=32,
        pooled_projection_dim=64,
        pos_embed_max_size=8,
    )
    return StableDiffusion3Pipeline(
        transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=autoencoder.eval(),
        text_encoder=tiny_text_encoder(tokenizer),
        tokenizer=tokenizer,
        text_encoder_2=tiny_text_encoder(tokenizer),
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
    )


def save_tiny_lora(transformer: SD3Transformer2DModel, folder: Path) -> Path:
    """A random LoRA with alpha = 2 r, written by the stock writer, with our time nodes in the metadata."""
    config = LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS, init_lora_weights=False)
    transformer.add_adapter(config, adapter_name="default")
    state = {
        name.replace(".default", ""): tensor for name, tensor in transformer.state_dict().items() if ".lora_" in name
    }
    adapter = config.to_dict() | {"target_modules": TARGETS}
    StableDiffusion3Pipeline.save_lora_weights(
        folder, transformer_lora_layers=state, transformer_lora_adapter_metadata=adapter
    )
    transformer.delete_adapters("default")
    path = folder / "pytorch_lora_weights.safetensors"
    nodes = {"tdm": json.dumps({"sigmas": SIGMAS, "trained_steps": [4]})}
    change_lora(path, lambda tensors, metadata: (tensors, metadata | nodes))
    return path


def change_lora(path: Path, change) -> None:
    """Rewrite a LoRA file with ``change(tensors, metadata)``."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors, metadata = change(load_file(path), metadata)
    save_file(tensors, path, metadata=metadata)


def tiny_tokenizer() -> CLIPTokenizer:
    letters = [chr(code) for code in range(33, 127)] + [chr(code) for code in range(161, 500)]
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=[], model_max_length=16)


def tiny_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        projection_dim=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=16,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModelWithProjection(config).eval()
