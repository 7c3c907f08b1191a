"""Makes a mini teacher from nothing: ``python -m train.mini train/teachers/mini-sd3.toml``.

Three stages, none done twice: the autoencoder, the text encoders, then the teacher, resumed where it stopped. Every
few minutes the averaged weights are written as a stock pipeline to ``<out>/pipeline``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers import AutoencoderDC
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from tdm_core.backbones import mini
from tdm_core.errors import ConfigError, TDMError
from tdm_core.scenes.facts import facts
from tdm_core.scenes.grammar import CANVASES, KINDS, TILES, VOCABULARY, caption
from tdm_core.scenes.render import CELL_PX, CELLS, JITTER_PX, Layout, Pixels, Placed, draw, render
from tdm_core.scenes.sampling import sample_scene
from tdm_core.scenes.suite import held_out
from tdm_core.toml_config import from_toml
from tdm_core.training.autoencoder import AutoencoderConfig, polish, train
from tdm_core.training.pretrain import LatentStream, PretrainConfig, Pretrainer, append_log
from tdm_core.training.text import TextConfig, TextFeatures, train_text

HISTORY = "training.json"  # in a published folder: how long its weights were trained, and how they scored meanwhile
STARTED_FROM = "started_from.json"  # in a run's folder: the history of the weights that it started from
NOTHING_YET: dict[str, Any] = {"minutes": 0.0, "steps": 0, "pictures": 0, "scores": []}


@dataclass(frozen=True, kw_only=True)
class MiniConfig:
    """Everything that makes one mini teacher."""

    out: Path
    family: Literal["sd3", "pixart"] = "sd3"
    start: Path | None = None  # published weights to train on from, with a fresh optimiser; None: from nothing
    borrowed_autoencoder: Path | None = None  # take this one instead of training one; a folder as diffusers saves it
    autoencoder_shape: mini.AutoencoderShape = field(default_factory=mini.AutoencoderShape)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    polishing: AutoencoderConfig = field(
        default_factory=lambda: AutoencoderConfig(minutes=10, learning_rate=1e-3, seed=1_000_000)
    )
    text: mini.TextShape = field(default_factory=mini.TextShape)
    transformer: mini.TransformerShape = field(default_factory=mini.TransformerShape)
    text_training: TextConfig = field(default_factory=TextConfig)
    training: PretrainConfig = field(default_factory=PretrainConfig)
    teacher_steps: int = 28  # of the sampler, as scored and as the card says
    guidance_scale: float = 3.0


def to_tensor(pictures: list[Pixels]) -> Tensor:
    """uint8 pictures to float [N, 3, H, W] in [-1, 1], as autoencoders take them."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def draw_scenes(seed: int, n: int) -> tuple[Tensor, list[str]]:
    """Scenes of the training distribution and their captions; nothing that the suite asks for."""
    rng = np.random.default_rng((1, seed))
    scenes = [sample_scene(rng, held_out()) for _ in range(n)]
    return to_tensor([render(scene, rng) for scene in scenes]), [caption(scene) for scene in scenes]


def draw_facts(seed: int, n: int) -> tuple[list[str], Tensor]:
    """Captions of the training distribution, relations among them in plenty, and what they say."""
    rng = np.random.default_rng((3, seed))
    scenes = [sample_scene(rng, held_out(), more_relations=0.4) for _ in range(n)]
    return [caption(scene) for scene in scenes], torch.from_numpy(np.stack([facts(scene) for scene in scenes]))


def draw_crowded(seed: int, n: int) -> Tensor:
    """Pictures for the autoencoder, crowded with objects: more to learn from per convolution."""
    rng = np.random.default_rng((2, seed))
    return to_tensor([draw(_crowded(rng)) for _ in range(n)])


def _crowded(rng: np.random.Generator) -> Layout:
    kinds, tiles, canvases = tuple(KINDS), tuple(TILES), tuple(CANVASES)
    share = rng.choice([0.3, 1.0])
    objects = []
    for row, column in np.ndindex(CELLS, CELLS):
        if rng.random() < share:
            dx, dy = rng.integers(-JITTER_PX, JITTER_PX + 1, size=2) + CELL_PX // 2
            tile = tiles[rng.integers(len(tiles))] if rng.random() < 0.4 else None
            kind = kinds[rng.integers(len(kinds))]
            objects.append(Placed(kind=kind, tile=tile, x=column * CELL_PX + int(dx), y=row * CELL_PX + int(dy)))
    return Layout(objects=tuple(objects), canvas=canvases[rng.integers(len(canvases))])


def make_autoencoder(config: MiniConfig) -> AutoencoderDC:
    """Load the trained autoencoder, or train it."""
    folder = config.out / "vae"
    ready = config.borrowed_autoencoder or (config.start and config.start / "vae")
    if not folder.exists() and ready:
        if not (ready / "config.json").exists():
            raise ConfigError(f"{ready}: no autoencoder there\nname a folder that diffusers' save_pretrained wrote")
        _replace(folder, AutoencoderDC.from_pretrained(ready).save_pretrained)
    if not folder.exists():
        torch.manual_seed(config.autoencoder.seed)
        model = mini.build_autoencoder(config.autoencoder_shape)
        train(config.autoencoder, model, draw_crowded, _report("autoencoder", config.out))
        _replace(folder, model.save_pretrained)
    return AutoencoderDC.from_pretrained(folder).eval().requires_grad_(False)


def polish_decoder(config: MiniConfig) -> None:
    """Sharpen the decoder on the latents as they are, and put it into the pipeline if there is one."""
    model = AutoencoderDC.from_pretrained(config.out / "vae").requires_grad_(True)
    polish(config.polishing, model, draw_crowded, _report("polish", config.out))
    _replace(config.out / "vae", model.save_pretrained)
    if (config.out / "pipeline").exists():
        _replace(config.out / "pipeline" / "vae", model.save_pretrained)


def make_teacher(config: MiniConfig, vae: AutoencoderDC) -> None:
    """Train the text encoders and the transformer; write the pipeline after every checkpoint."""
    torch.manual_seed(config.training.seed)
    family = mini.family(config.family)
    tokenizer = _tokenizer(config, family)

    def tokenize(captions: list[str]) -> Tensor:
        return tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids

    network = family.build_network(config.transformer, config.text, config.autoencoder_shape.latent_channels, tokenizer)
    if config.start is not None:
        _start_from(config.start, family, network)
        if not (config.out / STARTED_FROM).exists() and (config.start / HISTORY).exists():
            shutil.copy(config.start / HISTORY, config.out / STARTED_FROM)
    if config.text_training.steps:
        teach_text(config, family, network, tokenize)
    stream = LatentStream(config.training, draw_scenes, lambda pictures: vae.encode(pictures).latent)
    trainer = Pretrainer(config.training, network, tokenize, stream, family.process(), family.PREDICTION_TYPE)
    for _ in trainer.run(config.out / "teacher", _report("teacher", config.out)):
        trained = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        network.load_state_dict(trainer.ema_state())
        _replace(config.out / "pipeline", family.assemble(network, vae, tokenizer).save_pretrained)
        network.load_state_dict(trained)


def _tokenizer(config: MiniConfig, family: mini.MiniFamily) -> Any:
    """Made once and kept: the merges of a BPE tokenizer that are equally good come in another order each time."""
    folder = config.out / "tokenizer"
    made = family.build_tokenizer(VOCABULARY, config.text.max_tokens)
    if not folder.exists():
        start = config.start and config.start / "tokenizer"
        kept = type(made).from_pretrained(start) if start and start.exists() else made
        _replace(folder, kept.save_pretrained)
    return type(made).from_pretrained(folder)


def teach_text(
    config: MiniConfig, family: mini.MiniFamily, network: nn.Module, tokenize: Callable[[list[str]], Tensor]
) -> None:
    """Give the network text encoders that know what captions say; trained once, then read from the run's folder."""
    encoders = nn.ModuleDict({part: getattr(network, part) for part in family.PARTS if part != "transformer"})
    path = config.out / "text.safetensors"
    if not path.exists():
        train_text(
            config.text_training,
            encoders,
            lambda trained, ids: TextFeatures(*family.text_features(trained, ids)),
            tokenize,
            draw_facts,
            anchored=config.start is not None,
            report=_report("text", config.out),
        )
        save_model(encoders, str(path.with_suffix(".part")))
        path.with_suffix(".part").rename(path)
    load_model(encoders, path)


def _start_from(folder: Path, family: mini.MiniFamily, network: nn.Module) -> None:
    """Give the network the weights of a published pipeline."""
    if not (folder / "model_index.json").exists():
        raise ConfigError(f"start = {str(folder)!r}: no pipeline there\nname a folder that train.publish wrote")
    published = family.load(folder)
    for part in family.PARTS:
        getattr(network, part).load_state_dict(getattr(published, part).float().state_dict())


def _replace(folder: Path, save) -> None:
    """Save beside ``folder`` and swap, so that a reader never sees half a pipeline."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    save(part)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def _report(stage: str, out: Path):
    def report(row: dict[str, float]) -> None:
        append_log(out / f"{stage}.jsonl", row)
        print(stage, "  ".join(f"{key} {value:.4g}" for key, value in row.items()), flush=True)

    return report


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m train.mini", description=__doc__)
    parser.add_argument("config", type=Path, help="a file of train/teachers/")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="override one key of the file")
    parser.add_argument("--polish", action="store_true", help="train the decoder alone some more, then stop")
    options = parser.parse_args(arguments)
    try:
        config = from_toml(MiniConfig, options.config, options.set)
        config.out.mkdir(parents=True, exist_ok=True)
        torch.set_num_threads(config.training.threads)
        if options.polish:
            polish_decoder(config)
        else:
            make_teacher(config, make_autoencoder(config))
    except TDMError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
