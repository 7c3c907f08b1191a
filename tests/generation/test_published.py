"""Every published system's preset, from its file to a picture or video, on a tiny checkpoint of the same classes.

The final latents must be those of the card's recipe, written out by hand (``tests/published.py``), from the same noise.
"""

from dataclasses import replace

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from torch.testing import assert_close

from tdm_core.backbones.base import family
from tdm_core.errors import TDMError
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


AUTOENCODERS = {
    "tdm-sd3": (diffusers.AutoencoderTiny, 1.0, 0.0),
    "tdm-sd3-full-vae": (diffusers.AutoencoderKL, 1.5305, 0.0609),
}


@pytest.mark.parametrize(("system", "name"), [(name, name) for name in AUTOENCODERS], indirect=["system"])
def test_sd3s_picture_is_decoded_by_the_autoencoder_of_the_preset_with_its_shift(system, made, name):
    _, preset, folder, _ = system
    autoencoder, scale, shift = AUTOENCODERS[name]
    vae = autoencoder.from_pretrained(preset.vae or folder / "vae")
    _, sample, latents = made(Role.STUDENT)
    with torch.no_grad():
        pixels = vae.decode(latents / scale + shift).sample[0]
    expected = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().permute(1, 2, 0)
    assert_close(torch.from_numpy(sample.media).float(), expected, atol=1, rtol=0)
    assert expected.std() > 1  # a picture, so that equality means something


def test_students_timesteps_are_the_trained_ones_or_the_stock_schedulers():
    trained, uniform = (PRESETS[name] for name in ("tdm-cogvideox-2b", "tdm-cogvideox-2b-uniform"))
    assert trained.student.timesteps == {"4": (999, 856, 665, 399)}
    assert (uniform.student.timesteps, uniform.student.grid) == ({}, "scheduler")
    scheduler = diffusers.CogVideoXDDIMScheduler(**uniform.student.scheduler_config)
    scheduler.set_timesteps(uniform.student.steps)
    assert scheduler.timesteps.tolist() == [999, 749, 499, 249]


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


def refusal(preset, role=Role.STUDENT, **request):
    """What the engine says of a preset that is wrong, in at most two lines."""
    engine = Engine({preset.name: preset}, device="cpu", threads=1)
    with pytest.raises(TDMError) as caught:
        finish(engine.sample(SampleRequest(preset=preset.name, role=role, prompt=PROMPT, seed=SEED, **request)))
    assert len(str(caught.value).splitlines()) <= 2
    return str(caught.value)


@pytest.mark.parametrize("system", ["tdm-cogvideox-2b"], indirect=True)
def test_video_that_the_base_cannot_make_is_refused(system):
    _, preset, _, _ = system
    assert "up to 9 frames, one more than a multiple of 4" in refusal(replace(preset, frames=13))
    assert "one more than a multiple of 4" in refusal(replace(preset, frames=8))
    assert "multiples of 16 px only" in refusal(replace(preset, width=72))


@pytest.mark.parametrize("system", ["tdm-sd3"], indirect=True)
def test_mistakes_in_a_preset_are_refused_with_the_cure(system, tmp_path):
    _, preset, _, _ = system
    student, teacher = preset.student, preset.teacher
    wrong = replace(teacher, scheduler="MagicScheduler")
    assert "no such class" in refusal(replace(preset, teacher=wrong), Role.TEACHER)
    wrong = replace(teacher, scheduler_config={"flow_shfit": 3.0})
    assert "has no setting 'flow_shfit'" in refusal(replace(preset, teacher=wrong), Role.TEACHER)
    assert "takes no 'eta'" in refusal(replace(preset, student=replace(student, options={"eta": 1.0})))
    assert "64x60 px: this base makes multiples of 16" in refusal(replace(preset, height=60))
    assert "has no flow shift" in refusal(
        replace(preset, student=replace(student, scheduler_config={})), flow_shift=2.0
    )
    missing = replace(student, lora=str(tmp_path / "nowhere"), made_here=True, file=None)
    assert "Distil one" in refusal(replace(preset, student=missing))


@pytest.mark.parametrize("system", ["tdm-sd3"], indirect=True)
def test_flow_shift_of_a_request_goes_before_the_presets(system):
    _, preset, _, _ = system
    other = replace(preset.student, scheduler_config={**preset.student.scheduler_config, "flow_shift": 2.0})
    asked = SampleRequest(preset=preset.name, role=Role.STUDENT, prompt=PROMPT, seed=SEED)
    engine, changed = (
        Engine({preset.name: each}, device="cpu", threads=1) for each in (preset, replace(preset, student=other))
    )
    own, shifted, back = (
        finish(engine.sample(request)).media for request in (asked, replace(asked, flow_shift=2.0), asked)
    )
    assert np.array_equal(own, back) and not np.array_equal(own, shifted)
    assert np.array_equal(shifted, finish(changed.sample(asked)).media)


@pytest.mark.parametrize("system", ["tdm-dreamshaper-7"], indirect=True)
def test_other_systems_leave_memory_when_one_needs_their_room(system, monkeypatch):
    _, preset, _, _ = system
    engine = Engine({name: replace(preset, name=name) for name in ("one", "two")}, device="cpu", threads=1)

    def run(name):
        finish(engine.sample(SampleRequest(preset=name, role=Role.TEACHER, prompt=PROMPT, seed=SEED, steps=1)))
        return set(engine._systems)

    monkeypatch.setattr("tdm_core.generation.engine.engine.free_gb", lambda _: 1.0)
    assert (run("one"), run("two"), run("one")) == ({"one"}, {"two"}, {"one"})
    monkeypatch.setattr("tdm_core.generation.engine.engine.free_gb", lambda _: 100.0)
    assert run("two") == {"one", "two"}


@pytest.mark.parametrize("system", ["tdm-sd3", "tdm-cogvideox-2b", "sdxl", "pixart-512", "lcm-sd15"], indirect=True)
def test_the_student_s_last_clean_prediction_is_its_picture(system, monkeypatch):
    _, preset, _, _ = system
    engine = Engine({preset.name: preset}, device="cpu", threads=1)
    module, decoded = family(preset.family), []
    decode = module.decode
    monkeypatch.setattr(module, "decode", lambda pipeline, found: decoded.append(found) or decode(pipeline, found))
    request = SampleRequest(preset=preset.name, role=Role.STUDENT, prompt=PROMPT, seed=SEED)
    *steps, sample = engine.trajectory(request)
    last, final = decoded[-2:]
    if preset.media == "video":
        final = final[:, :1]  # its preview is the first frame, whose normalisation differs without the others
    assert_close(last, final, atol=1e-3, rtol=1e-3)
    times = [step.time for step in steps if step.step]
    assert times == sorted(times, reverse=True)
    assert len(times) == sample.steps
