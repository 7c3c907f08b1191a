"""Every published system at the smallest size: the same classes in the same folder layout, random weights, and LoRA
files in the released formats.

``python -m tests.tiny_systems FOLDER`` writes them, to look at or to try the app with.
"""

from __future__ import annotations

import json
import string
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import diffusers
import torch
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel, T5Tokenizer

from tests.tiny import tiny_text_encoder, tiny_tokenizer

WIDTH = 32
STABLE_DIFFUSION = {
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}
SCHEDULERS = {
    "sd15": {"_class_name": "PNDMScheduler"} | STABLE_DIFFUSION,
    "sdxl": {"_class_name": "EulerDiscreteScheduler"}
    | STABLE_DIFFUSION
    | {"interpolation_type": "linear", "prediction_type": "epsilon", "timestep_spacing": "leading"},
}
"""The published files, word for word: what they leave out decides what another scheduler makes of them."""

RANK = 4


def t5_tokenizer(max_tokens: int) -> T5Tokenizer:
    letters = [letter for letter in string.printable if not letter.isspace()]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((letter, -3.0) for letter in letters)]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=max_tokens)


def t5(width: int, tokenizer: T5Tokenizer) -> T5EncoderModel:
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=width,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
    )
    return T5EncoderModel(config).eval()


def clip(tokenizer) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=16,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config).eval()


def autoencoder(channels: int = 4, **config) -> diffusers.AutoencoderKL:
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=channels,
        norm_num_groups=4,
        **config,
    ).eval()


def sd15() -> diffusers.StableDiffusionPipeline:
    tokenizer = tiny_tokenizer()
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=2,
        attention_head_dim=8,
        cross_attention_dim=WIDTH,
        norm_num_groups=8,
    )
    return diffusers.StableDiffusionPipeline(
        vae=autoencoder(),
        text_encoder=clip(tokenizer),
        tokenizer=tokenizer,
        unet=unet.eval(),
        scheduler=diffusers.PNDMScheduler.from_config(SCHEDULERS["sd15"]),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl() -> diffusers.StableDiffusionXLPipeline:
    """Three levels of two layers as the real one, so that SGM's names of its layers can be tested."""
    tokenizer = tiny_tokenizer()
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=2,
        transformer_layers_per_block=(1, 1, 2),
        attention_head_dim=(2, 4, 4),
        cross_attention_dim=2 * WIDTH,
        norm_num_groups=8,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=8 * 6 + WIDTH,
    )
    return diffusers.StableDiffusionXLPipeline(
        vae=autoencoder(scaling_factor=0.13025, force_upcast=True),
        text_encoder=clip(tokenizer),
        text_encoder_2=tiny_text_encoder(tokenizer),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet.eval(),
        scheduler=diffusers.EulerDiscreteScheduler.from_config(SCHEDULERS["sdxl"]),
    )


def sd3(**network) -> diffusers.StableDiffusion3Pipeline:
    """With a T5 and the full autoencoder, as published."""
    tokenizer, tokenizer_3 = tiny_tokenizer(), t5_tokenizer(256)
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=2 * WIDTH,
        caption_projection_dim=32,
        pooled_projection_dim=2 * WIDTH,
        pos_embed_max_size=16,
        **network,
    )
    return diffusers.StableDiffusion3Pipeline(
        transformer=transformer.eval(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(
            16, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.0609, scaling_factor=1.5305
        ),
        text_encoder=tiny_text_encoder(tokenizer),
        tokenizer=tokenizer,
        text_encoder_2=tiny_text_encoder(tokenizer),
        tokenizer_2=tokenizer,
        text_encoder_3=t5(2 * WIDTH, tokenizer_3),
        tokenizer_3=tokenizer_3,
    )


def sd35() -> diffusers.StableDiffusion3Pipeline:
    """SD3.5-medium's network: normalised queries and keys, and a second attention in the first blocks."""
    return sd3(dual_attention_layers=(0,), qk_norm="rms_norm")


def taesd3() -> diffusers.AutoencoderTiny:
    return diffusers.AutoencoderTiny(
        encoder_block_out_channels=(16, 16, 16, 16),
        decoder_block_out_channels=(16, 16, 16, 16),
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
        latent_channels=16,
        scaling_factor=1.0,
    ).eval()


def pixart(sample_size: int = 64) -> diffusers.PixArtAlphaPipeline:
    """``sample_size`` 128 is the 1024 px model, which is also told the picture's size."""
    tokenizer = t5_tokenizer(120)
    transformer = diffusers.PixArtTransformer2DModel(
        num_attention_heads=3,  # the embedding of the size takes a third of the width for each of three numbers
        attention_head_dim=16,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        cross_attention_dim=48,
        sample_size=sample_size,
        caption_channels=WIDTH,
    )
    return diffusers.PixArtAlphaPipeline(
        tokenizer=tokenizer,
        text_encoder=t5(WIDTH, tokenizer),
        vae=autoencoder(),
        transformer=transformer.eval(),
        scheduler=diffusers.DPMSolverMultistepScheduler(),
    )


def pixart1024() -> diffusers.PixArtAlphaPipeline:
    return pixart(sample_size=128)


def cogvideox(*, rotary: bool = False) -> diffusers.CogVideoXPipeline:
    tokenizer = t5_tokenizer(226)
    transformer = diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        time_embed_dim=16,
        text_embed_dim=WIDTH,
        num_layers=2,
        sample_width=8,
        sample_height=8,
        sample_frames=9,
        max_text_seq_length=226,
        use_rotary_positional_embeddings=rotary,
    )
    vae = diffusers.AutoencoderKLCogVideoX(
        block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1, norm_num_groups=2
    )
    return diffusers.CogVideoXPipeline(
        tokenizer=tokenizer,
        text_encoder=t5(WIDTH, tokenizer),
        vae=vae.eval(),
        transformer=transformer.eval(),
        scheduler=diffusers.CogVideoXDDIMScheduler(
            snr_shift_scale=3.0,
            rescale_betas_zero_snr=True,
            prediction_type="v_prediction",
            timestep_spacing="trailing",
            clip_sample=False,
            set_alpha_to_one=True,
        ),
    )


BASES: dict[str, Callable[[], diffusers.DiffusionPipeline]] = {
    "sd15": sd15,
    "sdxl": sdxl,
    "sd3": sd3,
    "sd35": sd35,
    "pixart": pixart,
    "pixart1024": pixart1024,
    "cogvideox": cogvideox,
}

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
UNET = (*ATTENTION, "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2")
JOINT = tuple(f"attn.{name}" for name in (*ATTENTION, "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"))


def save_base(name: str, folder: Path, *, variant: str | None = None) -> Path:
    torch.manual_seed(0)
    pipeline = BASES[name]()
    for network in ("unet", "transformer"):
        if hasattr(pipeline, network):
            enliven(getattr(pipeline, network))
    pipeline.save_pretrained(folder, variant=variant)
    if name in SCHEDULERS:  # saving would write every default of the class too
        (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULERS[name], indent=2))
    return folder


def enliven(network: nn.Module) -> None:
    """Let no layer put out zeros only, as some do that a training run would start from."""
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.05)


def random_lora(network: nn.Module, targets: Iterable[str], *, seed: int = 1) -> dict[str, torch.Tensor]:
    """PEFT's own names, ``<layer>.lora_A.weight``, in the order in which PEFT registers them."""
    torch.manual_seed(seed)
    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=list(targets), init_lora_weights="gaussian")
    inject_adapter_in_model(config, network)
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.5)
    return {name: tensor.contiguous() for name, tensor in get_peft_model_state_dict(network).items()}


def as_diffusers(lora: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """As diffusers writes it, without its metadata: the alpha is lost, as in TDM-SD3's file."""
    return {f"{prefix}.{name}": tensor for name, tensor in lora.items()}


def as_kohya(lora: dict[str, torch.Tensor], alpha: float) -> dict[str, torch.Tensor]:
    """As kohya's scripts write a UNet's LoRA, and the authors of TDM, LCM and DMD2 with them."""
    renamed = {}
    for name, tensor in lora.items():
        layer, side = name.split(".lora_")
        place = "lora_unet_" + layer.replace(".", "_")
        renamed[f"{place}.lora_{'down' if side[0] == 'A' else 'up'}.weight"] = tensor
        renamed[f"{place}.alpha"] = torch.tensor(alpha)
    return renamed


def as_tensor_list(lora: dict[str, torch.Tensor]) -> dict[str, object]:
    """TDM-SD3.5's file: moving averages by position alone."""
    return {"decay": 0.999, "ema_parameters": list(lora.values())}


def save_peft_folder(lora: dict[str, torch.Tensor], folder: Path, targets: Iterable[str], *, alpha: float) -> Path:
    """As PEFT's ``save_pretrained`` writes it: PixArt's only format."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {f"base_model.model.{name}": tensor for name, tensor in lora.items()}, folder / "adapter_model.safetensors"
    )
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": alpha, "target_modules": sorted(targets)}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder / "adapter_model.safetensors"


if __name__ == "__main__":
    for each in BASES:
        print(save_base(each, Path(sys.argv[1]) / each))
