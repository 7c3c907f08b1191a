"""A student that starts from an earlier run's export."""

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
from torch.testing import assert_close

from tdm_core.backbones.adapters import NetworkRole
from tdm_core.backbones.sd3_training import SD3Training
from tdm_core.backbones.trainable import denoiser
from tdm_core.errors import ConfigError, LoadError
from tdm_core.training.distillation import sample
from tdm_core.training.earlier import earlier_weights, keep_share, start_from
from tdm_core.training.export import Provenance, export_student
from tdm_core.training.prompts import draw_from_list
from tdm_core.training.trainer import Trainer
from tests.tiny import TARGETS, tiny_pipeline
from tests.training.recipes import PROMPTS, recipe, tiny_trainer

STUDENT, FAKE = NetworkRole.STUDENT, NetworkRole.FAKE
PROVENANCE = Provenance(iterations=3, minutes=0.1, machine="2 threads", commit="abc1234", num_prompts=5)


def backbone(*, rank=4, alpha=8, targets=TARGETS):
    return SD3Training(tiny_pipeline(), rank=rank, alpha=alpha, targets=targets, seed=5, max_sequence_length=0)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """The folder of a trained student."""
    folder = tmp_path_factory.mktemp("earlier")
    config = recipe(folder, export={"dtype": "bfloat16"}, optimiser={"student_lr": 0.05})
    trainer = tiny_trainer(config)
    for _ in range(3):
        trainer.train_step()
    return export_student(config, trainer.backbone, trainer.ema, PROVENANCE).parent


def test_it_samples_at_step_0_as_stock_code_samples_the_export(earlier, tiny_system, tmp_path):
    second = backbone()
    start_from(second, earlier)
    config = recipe(tmp_path, base={"student": str(earlier)})
    trainer = Trainer(config, second, draw_from_list(second, PROMPTS))
    noise = torch.randn(1, *second.latent_shape, generator=torch.Generator().manual_seed(0))
    pipe = StableDiffusion3Pipeline.from_pretrained(tiny_system / "base", text_encoder_3=None, tokenizer_3=None)
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    pipe.set_progress_bar_config(disable=True)

    def stock():
        return pipe(
            "a cat",
            sigmas=trainer.nodes[:-1].tolist(),
            guidance_scale=1.0,
            max_sequence_length=0,
            latents=noise.clone(),
            output_type="latent",
        ).images

    teacher = stock()
    pipe.load_lora_weights(earlier)
    student = stock()
    assert (student - teacher).abs().max() > 0.01  # it has learned something
    told = second.encode(["a cat"])
    for weights in (dict(second.roles.parameters(STUDENT)), trainer.ema):
        with second.roles.weights(STUDENT, weights):
            mine = sample(second, denoiser(second, STUDENT, told), noise, trainer.nodes)
        assert_close(mine, student, atol=1e-4, rtol=1e-4)


def test_a_kept_share_lies_between_the_two(earlier, tmp_path):
    base = recipe(tmp_path, base={"student": str(earlier), "student_kept": 0.25}).base
    second = backbone()
    before = earlier_weights(second, earlier)
    average = {name: weight + 1.0 for name, weight in before.items()}
    keep_share(base, second, average)
    for name, weight in before.items():
        assert_close(average[name], weight + 0.75)


def test_its_critic_starts_afresh(earlier):
    second, fresh = backbone(), backbone()
    start_from(second, earlier)
    for name, weight in fresh.roles.parameters(FAKE).items():
        assert torch.equal(second.roles.parameters(FAKE)[name], weight)


def test_the_hash_knows_it_and_is_as_before_without(earlier, tmp_path):
    plain = recipe(tmp_path)
    assert not {"base.student", "base.student_kept"} & plain.made_of().keys()
    assert recipe(tmp_path, base={"student": str(earlier)}).hash != plain.hash


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"rank": 2}, r"base.student: .*to_\w has rank 4 and alpha 8, and the recipe's are 2 and 8"),
        ({"alpha": 4}, r"has rank 4 and alpha 8, and the recipe's are 4 and 4.\nSet lora.rank and lora.alpha"),
        ({"targets": [*TARGETS, "ff.net.0.proj"]}, r"not in both: .*ff.net.0.proj.*\nSet lora.targets to its own"),
        ({"targets": TARGETS[:1]}, r"not in both: .*\nSet lora.targets to its own"),
    ],
    ids=str,
)
def test_a_lora_of_another_shape_is_refused(earlier, made, message):
    with pytest.raises(ConfigError, match=message):
        start_from(backbone(**made), earlier)


def test_a_missing_or_foreign_lora_is_refused(earlier, tmp_path):
    with pytest.raises(
        ConfigError, match=r"base.student: .*: holds no pytorch_lora_weights.*\nTrain the earlier stage"
    ):
        start_from(backbone(), tmp_path)
    (tmp_path / "pytorch_lora_weights.safetensors").write_bytes(b"not one")
    with pytest.raises(LoadError, match="not a whole safetensors file"):
        start_from(backbone(), tmp_path)
