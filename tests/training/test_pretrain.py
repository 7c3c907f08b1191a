"""Teachers from nothing: the stream replays, a resumed run equals an uninterrupted one, the rate is as written."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tdm_core.diffusion.noise import flow_matching, variance_preserving
from tdm_core.diffusion.prediction import PredictionType, predict
from tdm_core.errors import TrainingError
from tdm_core.training.pretrain import (
    JointStream,
    LatentStream,
    PretrainConfig,
    Pretrainer,
    StillsConfig,
    error_weight,
    learning_rate,
    times,
)

CONFIG = PretrainConfig(
    steps=8, decay_steps=4, warmup_steps=2, batch_size=4, chunk=16, chunks_kept=2, fresh_share=0.5, learning_rate=0.01
)


class TinyNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.image = nn.Embedding(4, 3), nn.Conv2d(3, 3, 1)
        self.blocks = nn.ModuleList([nn.Linear(3, 3)])

    def forward(self, latents: Tensor, t: Tensor, token_ids: Tensor) -> Tensor:
        words = self.words(token_ids).mean(dim=1)
        words = words + self.blocks[0](words)
        return self.image(latents) + (words * t[:, None])[..., None, None]


def draw(seed: int, n: int) -> tuple[Tensor, list[str]]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, 2, 2, generator=generator), [str(seed)] * n


def draw_still(seed: int, n: int) -> tuple[Tensor, list[str]]:
    pictures, captions = draw(seed, n)
    return pictures[:, :1], captions


def tokenize(captions: list[str]) -> Tensor:
    return torch.tensor([[len(text) % 4] for text in captions])


def trainer(config: PretrainConfig = CONFIG) -> Pretrainer:
    return flow_trainer(config, LatentStream(config, draw, lambda pictures: pictures))


def flow_trainer(config: PretrainConfig, stream: LatentStream) -> Pretrainer:
    return Pretrainer(config, TinyNetwork(), tokenize, stream, flow_matching(), PredictionType.FLOW)


def run(pretrainer: Pretrainer, folder: Path) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = []
    folder.mkdir(exist_ok=True)
    for _ in pretrainer.run(folder, rows.append):
        pass
    return rows


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_resumed_run_equals_an_uninterrupted_one_to_the_bit(tmp_path, optimizer):
    config = replace(CONFIG, optimizer=optimizer)
    whole = trainer(config)
    run(whole, tmp_path / "whole")
    first = trainer(config)
    for _ in range(3):
        first.train_step()
    first.save(tmp_path / "halves")
    second = trainer(config)
    run(second, tmp_path / "halves")
    for name, tensor in whole.ema_state().items():
        assert torch.equal(tensor, second.ema_state()[name])


def test_muon_takes_the_blocks_matrices_alone():
    optimizers = trainer(replace(CONFIG, optimizer="muon")).optimizers
    shapes = [[tuple(p.shape) for group in o.param_groups for p in group["params"]] for o in optimizers]
    assert shapes == [[(4, 3), (3, 3, 1, 1), (3,), (3,)], [(3, 3)]]


def test_constant_part_can_be_prolonged_without_changing_what_came_before():
    short, long = CONFIG, replace(CONFIG, steps=20)
    assert [learning_rate(step, short) for step in range(5)] == [learning_rate(step, long) for step in range(5)]


def test_rate_warms_up_holds_and_falls_to_zero():
    # 2 steps of warm-up, constant to step 8 - 4, then 4/4, 3/4, 2/4, 1/4 of the rate
    rates = [learning_rate(step, CONFIG) / CONFIG.learning_rate for step in range(9)]
    assert rates == pytest.approx([0.5, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0])


def test_stream_is_a_function_of_the_step():
    walked, jumped = (LatentStream(CONFIG, draw, lambda pictures: pictures) for _ in range(2))
    for step in range(30):
        latents, captions = walked.batch(step)
    there, same = jumped.batch(29)
    assert torch.equal(latents, there) and captions == same


def test_stream_moves_on_to_fresh_scenes():
    stream = LatentStream(CONFIG, draw, lambda pictures: pictures)
    seen = [set(stream.batch(step)[1]) for step in range(60)]
    assert "0" in seen[0] and "0" not in seen[-1]
    assert set(itertools.chain(*seen)) >= {"0", "3", "6"}


def test_single_frames_come_between_clips_none_left_out():
    stills = StillsConfig(per_clip_step=2, batch_size=6, fresh_share=0.5, chunk=16, chunks_kept=2)
    walked, jumped = (JointStream(CONFIG, stills, draw, draw_still, lambda pictures: pictures) for _ in range(2))
    seen = [walked.batch(step) for step in range(9)]
    assert [tuple(latents.shape[:2]) for latents, _ in seen] == [(4, 3), (6, 1), (6, 1)] * 3
    clips, frames = (
        LatentStream(replace(CONFIG, batch_size=n), d, lambda p: p) for n, d in ((4, draw), (6, draw_still))
    )
    for i, step in enumerate((0, 3, 6)):
        assert torch.equal(seen[step][0], clips.batch(i)[0])
    for i, step in enumerate((1, 2, 4, 5, 7, 8)):
        assert torch.equal(seen[step][0], frames.batch(i)[0])
    assert torch.equal(jumped.batch(8)[0], seen[8][0])


def test_training_lowers_the_loss(tmp_path):
    config = replace(CONFIG, steps=300, decay_steps=100)

    def bright(seed: int, n: int) -> tuple[Tensor, list[str]]:
        pictures, captions = draw(seed, n)
        return pictures + 2, captions  # a velocity of -2 on the average: knowing it is worth 4

    stream = LatentStream(config, bright, lambda pictures: pictures)
    rows = run(flow_trainer(config, stream), tmp_path / "run")
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]


@pytest.mark.parametrize("kind", PredictionType)
def test_every_prediction_type_counts_errors_as_the_velocitys(kind):
    """Half the weighted square of a small error in the output is that of the velocity which the output means."""
    process = variance_preserving(torch.linspace(0.999, 0.01, 50).double())
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    x_t, output, error = torch.randn(3, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (x0, noise), (other_x0, other_noise) = (predict(kind, o, x_t, t, process) for o in (output, output + error))
    velocity_error = (other_noise - other_x0) - (noise - x0)
    if kind is PredictionType.FLOW:  # it predicts the velocity itself
        torch.testing.assert_close(velocity_error, error)
    torch.testing.assert_close(error_weight(kind, process, t)[:, None] * error**2, velocity_error**2)


@pytest.mark.parametrize("process", [flow_matching(), variance_preserving(torch.linspace(0.999, 1e-4, 1000).double())])
def test_times_have_the_share_of_noise_asked_for(process):
    share = torch.tensor([0.05, 0.3, 0.6, 0.95], dtype=torch.float64)
    t = times(process, share)
    torch.testing.assert_close(process.sigma(t) / (process.alpha(t) + process.sigma(t)), share, atol=1e-3, rtol=1e-3)


def test_run_stops_where_the_loss_is_not_finite(tmp_path):
    broken = trainer()
    broken.network.image.weight.data.fill_(float("nan"))
    with pytest.raises(TrainingError, match="not finite"):
        run(broken, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_half_written_checkpoint_is_not_read(tmp_path):
    stopped = trainer()
    stopped.train_step()
    stopped.save(tmp_path)
    (tmp_path / "checkpoint.tmp").write_bytes(b"half")
    again = trainer()
    again.restore(tmp_path)
    assert again.step == 1
