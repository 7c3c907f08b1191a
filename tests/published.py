"""The published systems as their cards run them, written out by hand: what the presets must come to.

Nothing here knows the presets, the families or the stock pipelines' calls: a network, a scheduler made as the card
makes it, and a loop.  The LoRA is added to the network's weights by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests import tiny_systems as tiny

SIDE_PX = 64
FRAMES = 9
SEED = 7
PROMPT = "a cat on a mat"

Formula = Callable[[Any, str], Any]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one side of a card samples."""

    scheduler: Callable[[Any], Any]
    """From the base's own scheduler, as ``pipe.scheduler.config`` is used on the cards."""
    steps: int
    guidance_scale: float = 1.0
    timesteps: Sequence[int] | None = None
    eta: float | None = None
    lora_scale: float = 0.0
    """What ``B @ A`` is multiplied with in the end."""


@dataclass(frozen=True, kw_only=True)
class Published:
    base: str
    teacher: Recipe
    student: Recipe
    targets: Sequence[str]
    save_lora: Callable[[Mapping[str, Tensor], Path], Path]
    variant: str | None = None
    tiny_vae: bool = field(default=False)


def from_base(scheduler_class: Any, **changes: Any) -> Callable[[Any], Any]:
    return lambda scheduler: scheduler_class.from_config(scheduler.config, **changes)


def diffusers_file(prefix: str):
    def save(lora, folder):
        folder.mkdir(parents=True)
        save_file(tiny.as_diffusers(lora, prefix), folder / "lora.safetensors")
        return folder / "lora.safetensors"

    return save


def kohya_file(name: str, alpha: float):
    def save(lora, folder):
        folder.mkdir(parents=True)
        named = tiny.as_kohya(lora, alpha)
        torch.save(named, folder / name) if name.endswith(".pt") else save_file(named, folder / name)
        return folder / name

    return save


def tensor_list_file(lora, folder):
    folder.mkdir(parents=True)
    torch.save(tiny.as_tensor_list(lora), folder / "tdm_sd3-5_lora.ckpt")
    return folder / "tdm_sd3-5_lora.ckpt"


def peft_folder(targets: Sequence[str], alpha: float):
    return lambda lora, folder: tiny.save_peft_folder(lora, folder, targets, alpha=alpha)


def sana(flow_shift: float) -> Callable[[Any], Any]:
    """Sana's scheduler file is the class's defaults but for these three."""
    return lambda _: diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=flow_shift
    )


DPM = from_base(diffusers.DPMSolverMultistepScheduler)
LCM = from_base(diffusers.LCMScheduler)
OWN = from_base(diffusers.DDIMScheduler, timestep_spacing="trailing", set_alpha_to_one=True, clip_sample=False)
TRAILING = from_base(diffusers.DDIMScheduler, timestep_spacing="trailing")
AS_SAVED = from_base
XL_TEACHER = Recipe(scheduler=from_base(diffusers.EulerDiscreteScheduler), steps=25, guidance_scale=7.5)
SD15_TEACHER = Recipe(scheduler=DPM, steps=25, guidance_scale=7.5)
TDM_15 = Recipe(scheduler=DPM, steps=25, guidance_scale=3.5)
PIXART_TEACHER = Recipe(scheduler=DPM, steps=25, guidance_scale=4.5)
EULER = from_base(diffusers.FlowMatchEulerDiscreteScheduler)
COG = from_base(diffusers.CogVideoXDDIMScheduler)
TDM_SD3_TEACHER = Recipe(scheduler=sana(3.0), steps=28, guidance_scale=7.0)
TDM_SD3_STUDENT = Recipe(scheduler=sana(6.0), steps=4, lora_scale=0.125)
COG_TEACHER = Recipe(scheduler=COG, steps=50, guidance_scale=6.0)
ALPHA = 3.0
KOHYA = {"targets": tiny.UNET, "variant": "fp16", "save_lora": kohya_file("lora.safetensors", ALPHA)}
PT = {"targets": tiny.UNET, "save_lora": kohya_file("tdm_dreamshaper.pt", ALPHA)}
XL = KOHYA | {"base": "sdxl", "teacher": XL_TEACHER}
SD15 = KOHYA | {"base": "sd15", "teacher": SD15_TEACHER}
COG_2B = {"base": "cogvideox", "targets": tiny.ATTENTION, "save_lora": diffusers_file("transformer")}
SD3 = {"base": "sd3", "targets": tiny.JOINT, "save_lora": diffusers_file("transformer")}
PIXART_TARGETS = tuple(f"attn{index}.{name}" for index in (1, 2) for name in tiny.ATTENTION)
PIXART = {"teacher": PIXART_TEACHER, "targets": PIXART_TARGETS, "save_lora": peft_folder(PIXART_TARGETS, ALPHA)}
KEPT = ALPHA / tiny.RANK  # a scale whose alpha the file brings
OWN_STUDENT = Recipe(scheduler=OWN, steps=4, lora_scale=KEPT)

SYSTEMS: dict[str, Published] = {
    "tdm-sd3": Published(**SD3, teacher=TDM_SD3_TEACHER, student=TDM_SD3_STUDENT, tiny_vae=True),
    "tdm-sd3-full-vae": Published(**SD3, teacher=TDM_SD3_TEACHER, student=TDM_SD3_STUDENT),
    "hyper-sd3": Published(
        **SD3,
        teacher=Recipe(scheduler=EULER, steps=28, guidance_scale=7.0),
        student=Recipe(scheduler=EULER, steps=4, guidance_scale=3.0, lora_scale=0.125),
    ),
    "tdm-sd35-medium": Published(
        base="sd35",
        targets=tiny.JOINT,
        save_lora=tensor_list_file,
        teacher=Recipe(scheduler=EULER, steps=40, guidance_scale=4.5),
        student=Recipe(scheduler=sana(3.0), steps=4, lora_scale=64 / 32),
    ),
    "tdm-dreamshaper-7": Published(
        **PT, base="sd15", variant="fp16", teacher=TDM_15, student=Recipe(scheduler=DPM, steps=4, lora_scale=KEPT)
    ),
    "tdm-realistic-vision": Published(
        **PT, base="sd15", teacher=TDM_15, student=Recipe(scheduler=DPM, steps=4, lora_scale=KEPT)
    ),
    "tdm-cogvideox-2b": Published(
        **COG_2B,
        teacher=COG_TEACHER,
        student=Recipe(scheduler=COG, steps=4, timesteps=(999, 856, 665, 399), lora_scale=1.0),
    ),
    "tdm-cogvideox-2b-uniform": Published(
        **COG_2B, teacher=COG_TEACHER, student=Recipe(scheduler=COG, steps=4, lora_scale=1.0)
    ),
    "pixart-512": Published(base="pixart", **PIXART, student=OWN_STUDENT),
    "pixart-1024": Published(base="pixart1024", **PIXART, student=OWN_STUDENT),
    "flash-pixart": Published(base="pixart1024", **PIXART, student=Recipe(scheduler=LCM, steps=4, lora_scale=KEPT)),
    "sdxl": Published(**XL, student=OWN_STUDENT),
    "lcm-sdxl": Published(**XL, student=Recipe(scheduler=LCM, steps=4, lora_scale=KEPT)),
    "hyper-sdxl": Published(**XL, student=Recipe(scheduler=TRAILING, steps=4, lora_scale=KEPT)),
    "lightning-sdxl": Published(
        **XL,
        student=Recipe(
            scheduler=from_base(diffusers.EulerDiscreteScheduler, timestep_spacing="trailing"),
            steps=4,
            lora_scale=KEPT,
        ),
    ),
    "dmd2-sdxl": Published(
        **XL, student=Recipe(scheduler=LCM, steps=4, timesteps=(999, 749, 499, 249), lora_scale=KEPT)
    ),
    "tcd-sdxl": Published(
        **XL, student=Recipe(scheduler=from_base(diffusers.TCDScheduler), steps=4, eta=0.3, lora_scale=KEPT)
    ),
    "sd15": Published(**SD15, student=OWN_STUDENT),
    "lcm-sd15": Published(**SD15, student=Recipe(scheduler=LCM, steps=4, lora_scale=KEPT)),
    "hyper-sd15": Published(**SD15, student=Recipe(scheduler=TRAILING, steps=4, lora_scale=KEPT)),
}


@torch.no_grad()
def by_hand(pipeline: Any, recipe: Recipe, lora: Mapping[str, Tensor], noise: Tensor, generator: Any) -> Tensor:
    """The final latents [1, ...] of a card's recipe; changes the pipeline's network for good."""
    name = "unet" if hasattr(pipeline, "unet") else "transformer"
    network = getattr(pipeline, name)
    for key, a in lora.items():
        if key.endswith(".lora_A.weight"):
            b = lora[key.replace("lora_A", "lora_B")]
            weight = network.get_submodule(key.removesuffix(".lora_A.weight")).weight
            weight += recipe.lora_scale * (b.flatten(1) @ a.flatten(1)).reshape(weight.shape)
    evaluate = EVALUATE[type(pipeline)]
    guided = recipe.guidance_scale > 1
    cond, uncond = evaluate(pipeline, guided)
    scheduler = recipe.scheduler(pipeline.scheduler)
    if recipe.timesteps and not isinstance(scheduler, diffusers.LCMScheduler):
        return ddim(scheduler, recipe.timesteps, noise, cond)
    grid = {"timesteps": list(recipe.timesteps)} if recipe.timesteps else {"num_inference_steps": recipe.steps}
    scheduler.set_timesteps(**grid)
    stochastic = isinstance(scheduler, (diffusers.LCMScheduler, diffusers.TCDScheduler))
    extra = ({"generator": generator} if stochastic else {}) | ({"eta": recipe.eta} if recipe.eta is not None else {})
    x = noise * getattr(scheduler, "init_noise_sigma", 1.0)
    for t in scheduler.timesteps:
        model_input = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        output = cond(model_input, t)
        if guided:
            without = uncond(model_input, t)
            output = without + recipe.guidance_scale * (output - without)
        x = scheduler.step(output, t, x, return_dict=False, **extra)[0]
    return x


def ddim(scheduler: Any, timesteps: Sequence[int], noise: Tensor, velocity: Any) -> Tensor:
    """True DDIM of v-prediction on any timesteps, in float64, down to the clean sample (arXiv:2010.02502, eq. 12)."""
    x = noise.double()
    abar = scheduler.alphas_cumprod.double()
    for t, then in zip(timesteps, [*timesteps[1:], None], strict=True):
        now, after = abar[t], torch.tensor(1.0, dtype=torch.float64) if then is None else abar[then]
        v = velocity(x.float(), torch.tensor(t)).double()
        x0 = now.sqrt() * x - (1 - now).sqrt() * v
        noise_t = now.sqrt() * v + (1 - now).sqrt() * x
        x = after.sqrt() * x0 + (1 - after).sqrt() * noise_t
    return x.float()


def _sd15(pipeline, guided):
    text, negative = pipeline.encode_prompt(PROMPT, "cpu", 1, guided, negative_prompt="")
    return (
        (lambda x, t, text=text: pipeline.unet(x, t, encoder_hidden_states=text).sample) for text in (text, negative)
    )


def _sdxl(pipeline, guided):
    text, negative, pooled, negative_pooled = pipeline.encode_prompt(PROMPT, do_classifier_free_guidance=guided)
    ids = torch.tensor([[SIDE_PX, SIDE_PX, 0, 0, SIDE_PX, SIDE_PX]], dtype=torch.float32)

    def network(text, pooled):
        added = {"text_embeds": pooled, "time_ids": ids}
        return lambda x, t: pipeline.unet(x, t, encoder_hidden_states=text, added_cond_kwargs=added).sample

    return network(text, pooled), network(negative, negative_pooled)


def _sd3(pipeline, guided):
    length = 128 if pipeline.transformer.config.dual_attention_layers else 256
    text, negative, pooled, negative_pooled = pipeline.encode_prompt(
        PROMPT, None, None, do_classifier_free_guidance=guided, max_sequence_length=length
    )

    def network(text, pooled):
        return lambda x, t: (
            pipeline.transformer(x, timestep=t.expand(1), encoder_hidden_states=text, pooled_projections=pooled).sample
        )

    return network(text, pooled), network(negative, negative_pooled)


def _pixart(pipeline, guided):
    text, mask, negative, negative_mask = pipeline.encode_prompt(PROMPT, guided, max_sequence_length=120)
    told = {"resolution": None, "aspect_ratio": None}
    if pipeline.transformer.config.sample_size == 128:
        told = {"resolution": torch.tensor([[SIDE_PX, SIDE_PX]]).float(), "aspect_ratio": torch.tensor([[1.0]])}

    def network(text, mask):
        def epsilon(x, t):
            options = {"encoder_hidden_states": text, "encoder_attention_mask": mask, "added_cond_kwargs": told}
            return pipeline.transformer(x, timestep=t.expand(1), **options).sample.chunk(2, dim=1)[0]

        return epsilon

    return network(text, mask), network(negative, negative_mask)


def _cogvideox(pipeline, guided):
    text, negative = pipeline.encode_prompt(PROMPT, "", guided, max_sequence_length=226)
    return (
        (lambda x, t, text=text: pipeline.transformer(x, text, t.expand(1)).sample.float()) for text in (text, negative)
    )


EVALUATE = {
    diffusers.StableDiffusionPipeline: _sd15,
    diffusers.StableDiffusionXLPipeline: _sdxl,
    diffusers.StableDiffusion3Pipeline: _sd3,
    diffusers.PixArtAlphaPipeline: _pixart,
    diffusers.CogVideoXPipeline: _cogvideox,
}
