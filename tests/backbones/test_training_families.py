"""One contract for the training side of every family: what is trained is what is sampled, before and after a file."""

import json

import pytest
import torch
from safetensors import safe_open
from torch.testing import assert_close

from tdm_core.backbones.adapters import NetworkRole
from tdm_core.backbones.base import Run, Size, family
from tdm_core.backbones.lora_file import read_lora
from tdm_core.backbones.stock_training import training_class
from tdm_core.backbones.system import LoraSettings, SideSettings, System
from tdm_core.backbones.trainable import denoiser
from tdm_core.diffusion.prediction import PredictionType
from tdm_core.diffusion.trajectory import roll_out
from tests import tiny_systems as tiny

TEACHER, STUDENT = NetworkRole.TEACHER, NetworkRole.STUDENT
PROMPTS = ["a cat", "a dog and a cat"]
TIMES = (1.0, 0.857, 0.666, 0.4)
NODES = torch.tensor([*TIMES, 0.0], dtype=torch.float64)
TOKENS = {"sd3": 40, "sd35": 40, "pixart": 40, "pixart1024": 40, "cogvideox": 226, "cogvideox5b": 226}
KINDS = {
    "sd15": ("sd15", PredictionType.EPSILON),
    "sdxl": ("sdxl", PredictionType.EPSILON),
    "sd3": ("sd3", PredictionType.FLOW),
    "sd35": ("sd3", PredictionType.FLOW),
    "pixart": ("pixart", PredictionType.EPSILON),
    "pixart1024": ("pixart", PredictionType.EPSILON),
    "cogvideox": ("cogvideox", PredictionType.V),
    "cogvideox5b": ("cogvideox", PredictionType.V),
}
DDIM = {"timestep_spacing": "trailing", "clip_sample": False}
SCHEDULERS = {
    "sd3": SideSettings(scheduler_config={"shift": 1.0}),
    "sd15": SideSettings(
        scheduler="DDIMScheduler",
        scheduler_config={"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, **DDIM},
    ),
    "pixart": SideSettings(
        scheduler="DDIMScheduler", scheduler_config={"beta_start": 0.0001, "beta_end": 0.02, **DDIM}
    ),
    "cogvideox": SideSettings(),
}
SCHEDULERS["sdxl"] = SCHEDULERS["sd15"]


def tiny_pipeline(name):
    """The tiny base, always with the same weights; small enough for its own size to be trained on."""
    torch.manual_seed(0)
    if name == "pixart":
        pipeline = tiny.pixart(sample_size=8)
    else:
        pipeline = tiny.cogvideox(rotary=True) if name == "cogvideox5b" else tiny.BASES[name]()
    tiny.enliven(getattr(pipeline, "unet", None) or pipeline.transformer)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(params=KINDS)
def name(request):
    return request.param


@pytest.fixture
def backbone(name):
    """Rank 4 and alpha 8: a lost alpha would show as a factor of 2.  All LoRA weights are random."""
    training = training_class(KINDS[name][0])
    backbone = training(
        tiny_pipeline(name),
        rank=4,
        alpha=8,
        targets=training.TARGETS,
        seed=0,
        max_sequence_length=TOKENS.get(name, 0),
        size=Size(width=64, height=64) if name == "pixart1024" else None,
    )
    generator = torch.Generator().manual_seed(1)
    for parameter in backbone.roles.parameters(STUDENT).values():
        parameter.data.normal_(0, 0.1, generator=generator)
    return backbone


def trained(backbone, role, noise, **guidance):
    """The end of the roll-out that the trainer makes."""
    with torch.no_grad():
        denoise = denoiser(backbone, role, backbone.encode(PROMPTS), **guidance)
        *_, last = roll_out(denoise, noise, NODES, backbone.process)
    return last.x_s


def sampled(system, backbone, noise, *, student, guidance_scale):
    """The latents that the app makes at the same times."""
    guided = guidance_scale > 1
    text = system.encode(
        PROMPTS, negative_prompt="" if guided else None, max_sequence_length=backbone.max_sequence_length
    )
    run = Run(
        noise=noise,
        steps=len(TIMES),
        guidance_scale=guidance_scale,
        times=TIMES,
        size=backbone.size,
        generators=[],
        on_step=lambda *_: None,
        options={},
    )
    return system.family.sample(system.pipeline(student=student), text.tensors, run)


def test_what_is_trained_is_what_is_sampled(name, backbone, tmp_path):
    kind, prediction_type = KINDS[name]
    assert backbone.prediction_type is prediction_type
    noise = torch.randn(len(PROMPTS), *backbone.latent_shape, generator=torch.Generator().manual_seed(2))
    state = {key: tensor.detach().clone() for key, tensor in backbone.roles.parameters(STUDENT).items()}
    file = backbone.save_lora(tmp_path, state, {"tdm": json.dumps({"sigmas": {"4": TIMES}})})

    system = System(family(kind), tiny_pipeline(name), SCHEDULERS[kind], device="cpu")
    system.add_student(file, LoraSettings(alpha_in_file=True), SCHEDULERS[kind])
    teacher = trained(backbone, TEACHER, noise, uncond=backbone.encode([""]), guidance_scale=3.0)
    expected = sampled(system, backbone, noise, student=False, guidance_scale=3.0)
    assert_close(teacher, expected, atol=1e-4, rtol=1e-4)
    student = trained(backbone, STUDENT, noise)
    assert_close(student, sampled(system, backbone, noise, student=True, guidance_scale=1.0), atol=1e-4, rtol=1e-4)
    plain = trained(backbone, TEACHER, noise)
    assert (student - plain).abs().max() > 1e-2  # the LoRA does something, so that equality means something

    pictures = backbone.decode(student)
    assert pictures.ndim == 4 and pictures.shape[:2] == (len(PROMPTS), backbone.size_px)


def test_exported_file_holds_alpha_every_layer_and_our_metadata(name, backbone, tmp_path):
    state = {key: tensor.detach() for key, tensor in backbone.roles.parameters(STUDENT).items()}
    file = backbone.save_lora(tmp_path, state, {"tdm": "{}"})
    denoiser_name = backbone.family.DENOISER
    layers = read_lora(file, getattr(tiny_pipeline(name), denoiser_name), prefix=denoiser_name)
    assert len(layers) == backbone.roles.num_layers
    assert {layer.scale for layer in layers.values()} == {2.0}
    with safe_open(file, framework="pt") as content:
        assert content.metadata()["tdm"] == "{}"


def test_card_example_is_python(backbone):
    about = {"trained_steps": [4], "sigmas": {"4": list(TIMES)}}
    example = backbone.card_example("someone/base", "someone/lora", about)
    compile(example, "card", "exec")
    assert "0.857" in example or "[999, 856, 665, 399]" in example


@pytest.mark.parametrize("name", [name for name in KINDS if "cog" not in name])
def test_another_size_than_the_bases_own_can_be_trained_on(name):
    training = training_class(KINDS[name][0])
    options = {"rank": 2, "alpha": 2, "targets": training.TARGETS, "seed": 0, "max_sequence_length": 0}
    backbone = training(tiny_pipeline(name), size=Size(width=96, height=48), **options)
    assert (backbone.latent_shape[-2:], backbone.size_px) == ((6, 12), 48)
