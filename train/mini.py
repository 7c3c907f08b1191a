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

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from tdm_core.backbones import mini
from tdm_core.errors import ConfigError, TDMError
from tdm_core.toml_config import from_toml
from tdm_core.training.autoencoder import AutoencoderConfig, inflate, polish, train
from tdm_core.training.pretrain import (
    JointStream,
    LatentStream,
    PretrainConfig,
    Pretrainer,
    StillsConfig,
    Stream,
    append_log,
)
from tdm_core.training.text import TextConfig, TextFeatures, train_text
from train.worlds import OF_FAMILY, World

HISTORY = "training.json"  # in a published folder: how long its weights were trained, and how they scored meanwhile
STARTED_FROM = "started_from.json"  # in a run's folder: the history of the weights that it started from
NOTHING_YET: dict[str, Any] = {"minutes": 0.0, "steps": 0, "pictures": 0, "stills": 0, "scores": []}


@dataclass(frozen=True, kw_only=True)
class MiniConfig:
    """Everything that makes one mini teacher."""

    out: Path
    family: Literal["sd3", "pixart", "cogvideox"] = "sd3"
    start: Path | None = None  # published weights to train on from, with a fresh optimiser; None: from nothing
    borrowed_autoencoder: Path | None = None  # take this one instead of training one; a folder as diffusers saves it
    autoencoder_shape: mini.AutoencoderShape = field(default_factory=mini.AutoencoderShape)
    stills: AutoencoderConfig | None = None  # of clips: how the autoencoder is trained on single frames, before clips
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    polishing: AutoencoderConfig = field(
        default_factory=lambda: AutoencoderConfig(minutes=10, learning_rate=1e-3, seed=1_000_000)
    )
    text: mini.TextShape = field(default_factory=mini.TextShape)
    transformer: mini.TransformerShape = field(default_factory=mini.TransformerShape)
    text_training: TextConfig = field(default_factory=TextConfig)
    training: PretrainConfig = field(default_factory=PretrainConfig)
    joint: StillsConfig | None = None  # of clips: train on single frames too
    teacher_steps: int = 28  # of the sampler, as scored and as the card says
    guidance_scale: float = 3.0

    @property
    def world(self) -> World:
        return OF_FAMILY[self.family]


def make_autoencoder(config: MiniConfig) -> Any:
    """Load the trained autoencoder, or train it."""
    family = mini.family(config.family)
    folder = config.out / "vae"
    ready = config.borrowed_autoencoder or (config.start and config.start / "vae")
    if not folder.exists() and ready:
        if not (ready / "config.json").exists():
            raise ConfigError(f"{ready}: no autoencoder there\nname a folder that diffusers' save_pretrained wrote")
        _replace(folder, family.load_autoencoder(ready).save_pretrained)
    if not folder.exists():
        torch.manual_seed(config.autoencoder.seed)
        model = family.build_autoencoder(config.autoencoder_shape)
        if config.stills:
            train(config.stills, model, config.world.crowded, _report("stills", config.out))
            inflate(model)
        train(config.autoencoder, model, config.world.crowded, _report("autoencoder", config.out))
        _replace(folder, model.save_pretrained)
    return family.load_autoencoder(folder).eval().requires_grad_(False)


def polish_decoder(config: MiniConfig) -> None:
    """Sharpen the decoder on the latents as they are, and put it into the pipeline if there is one."""
    model = mini.family(config.family).load_autoencoder(config.out / "vae").requires_grad_(True)
    polish(config.polishing, model, config.world.crowded, _report("polish", config.out))
    _replace(config.out / "vae", model.save_pretrained)
    if (config.out / "pipeline").exists():
        _replace(config.out / "pipeline" / "vae", model.save_pretrained)


def make_teacher(config: MiniConfig, vae: Any) -> None:
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
    stream = training_stream(config, lambda pictures: family.encode(vae, pictures))
    trainer = Pretrainer(config.training, network, tokenize, stream, family.process(), family.PREDICTION_TYPE)
    for _ in trainer.run(config.out / "teacher", _report("teacher", config.out)):
        trained = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        network.load_state_dict(trainer.ema_state())
        _replace(config.out / "pipeline", family.assemble(network, vae, tokenizer).save_pretrained)
        network.load_state_dict(trained)


def training_stream(config: MiniConfig, encode: Callable[[Tensor], Tensor]) -> Stream:
    """What the teacher learns from.

    Raises:
        ConfigError: if single frames are asked for in a world of pictures.
    """
    world = config.world
    if config.joint is None:
        return LatentStream(config.training, world.scenes, encode)
    if world.stills is None:
        raise ConfigError(f"[joint]: {config.family} draws pictures\nonly a family of clips is trained on both")
    return JointStream(config.training, config.joint, world.scenes, world.stills, encode)


def _tokenizer(config: MiniConfig, family: mini.MiniFamily) -> Any:
    """Made once and kept: the merges of a BPE tokenizer that are equally good come in another order each time."""
    folder = config.out / "tokenizer"
    made = family.build_tokenizer(config.world.vocabulary, config.text.max_tokens)
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
            config.world.facts,
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
