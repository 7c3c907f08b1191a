"""Every published system's preset, from its file to a picture or video, on a tiny checkpoint of the same classes.

The final latents must be those of the card's recipe, written out by hand (``tests/published.py``), from the same noise.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from torch.testing import assert_close

from tdm_core.backbones.base import family
from tdm_core.generation.engine import Engine
from tdm_core.generation.media import encode
from tdm_core.generation.plan import make_plan
from tdm_core.generation.presets import SHIPPED, load_presets
from tdm_core.generation.sample import Role, SampleRequest, finish
from tests import tiny_systems as tiny
from tests.published import FRAMES, PROMPT, SEED, SIDE_PX, SYSTEMS, by_hand

# numpy 2.4 against the tensors that some of diffusers' schedulers hand it
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")

PRESETS = load_presets([SHIPPED])
LATENTS = {"cogvideox": (3, 4, 8, 8), "sd3": (16, 8, 8), "sd35": (16, 8, 8)}


@pytest.fixture(scope="session")
def bases(tmp_path_factory):
    """Folders of tiny bases, made when first asked for, with the LoRA's tensors for their networks."""
    folder, made = tmp_path_factory.mktemp("systems"), {}

    def base(name, variant, targets):
        key = (name, variant, tuple(targets))
        if key not in made:
            place = tiny.save_base(name, folder / f"{name}-{len(made)}", variant=variant)
            pipeline = tiny.BASES[name]()
            network = getattr(pipeline, "unet", None) or pipeline.transformer
            made[key] = place, tiny.random_lora(network, targets)
        return made[key]

    return base


@pytest.fixture(scope="session")
def taesd3(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("taesd3")
    tiny.taesd3().save_pretrained(folder)
    return folder


@pytest.fixture
def system(request, bases, taesd3, tmp_path):
    """A published system by name: its recipe, its shipped preset on tiny weights, the base's folder, the LoRA."""
    name = request.param
    published = SYSTEMS[name]
    folder, lora = bases(published.base, published.variant, published.targets)
    file = published.save_lora(lora, tmp_path / "lora")
    shipped = PRESETS[name]
    student = replace(shipped.student, lora=str(file.parent), file=file.name)
    if student.tensor_list:
        student = replace(student, tensor_list=replace(student.tensor_list, rank=tiny.RANK, alpha=2 * tiny.RANK))
    preset = replace(
        shipped,
        base=str(folder),
        revision=None,
        vae=str(taesd3) if shipped.vae and published.tiny_vae else None,
        width=SIDE_PX,
        height=SIDE_PX,
        frames=FRAMES if shipped.media == "video" else 1,
        dtype="float32",
        vae_tiling=False,  # a tiny autoencoder's tiles do not add up (docs/log.md)
        student=student,
    )
    return published, preset, folder, lora


def test_every_shipped_preset_of_a_published_system_has_its_recipe_here():
    assert SYSTEMS.keys() == {name for name in PRESETS if not name.startswith("mini-")}


def bare(published, folder):
    """The stock pipeline, as plain diffusers loads it."""
    parts = {"safety_checker": None} if published.base == "sd15" else {}
    return DiffusionPipeline.from_pretrained(folder, variant=published.variant, **parts)


def start(published):
    """The noise of the seed, and what drew it, to go on."""
    generator = torch.Generator().manual_seed(SEED)
    return torch.randn((1, *LATENTS.get(published.base, (4, 8, 8))), generator=generator), generator


@pytest.fixture
def made(system, monkeypatch):
    """Sample a role through the engine: the request's plan, the sample, the latents that it was decoded from."""
    _, preset, _, _ = system
    engine = Engine({preset.name: preset}, device="cpu", threads=1)
    module, latents = family(preset.family), {}
    decode = module.decode
    monkeypatch.setattr(module, "decode", lambda pipeline, found: latents.update(last=found) or decode(pipeline, found))

    def make(role):
        request = SampleRequest(preset=preset.name, role=role, prompt=PROMPT, seed=SEED)
        sample = finish(engine.sample(request, previews=False))
        return make_plan(preset, request), sample, latents["last"]

    return make


@pytest.mark.parametrize("system", SYSTEMS, indirect=True)
def test_students_latents_are_those_of_the_card(system, made):
    published, preset, folder, lora = system
    recipe = published.student
    plan, sample, latents = made(Role.STUDENT)
    pipeline = bare(published, folder)
    plain = by_hand(pipeline, recipe, {}, *start(published))
    expected = by_hand(pipeline, recipe, lora, *start(published))
    assert_close(latents, expected, atol=1e-4, rtol=1e-4)
    assert (plain - expected).abs().max() > 1e-2  # the LoRA does something, so that equality means something
    assert sample.nfe == plan.nfe == recipe.steps * (2 if recipe.guidance_scale > 1 else 1)
    ending, content = encode(sample, fps=preset.fps)
    shape = (FRAMES, SIDE_PX, SIDE_PX, 3) if preset.media == "video" else (SIDE_PX, SIDE_PX, 3)
    assert sample.media.shape == shape and sample.media.dtype == np.uint8
    assert (ending, content[:8]) in ((".png", b"\x89PNG\r\n\x1a\n"), (".mp4", b"\0\0\0 ftyp"))


TEACHERS = {(each.base, id(each.teacher)): name for name, each in SYSTEMS.items()}


@pytest.mark.parametrize("system", TEACHERS.values(), indirect=True)
def test_teachers_latents_are_those_of_the_card(system, made):
    published, _, folder, _ = system
    recipe = published.teacher
    plan, sample, latents = made(Role.TEACHER)
    assert_close(latents, by_hand(bare(published, folder), recipe, {}, *start(published)), atol=1e-4, rtol=1e-4)
    assert sample.nfe == plan.nfe == 2 * recipe.steps


def test_presets_with_one_teacher_say_the_same_of_it():
    for name, each in SYSTEMS.items():
        assert PRESETS[name].teacher == PRESETS[TEACHERS[each.base, id(each.teacher)]].teacher, name
