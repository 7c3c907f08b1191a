"""CLIP score, HPS v2.1 and the LAION aesthetic score: cosines and a small head over a CLIP's features.

"CLIP score" names three models and two scales in print, so a name carries its preset.  HPS v2.1's own code resizes a
tensor, which older torchvision did without antialiasing: values differ by points, so the flag is part of the
fingerprint.

Sources: Hessel et al. (arXiv:2104.08718); HPS v2 (arXiv:2306.09341); LAION aesthetic predictor v2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tdm_core.evaluation.metrics.extras import device, fetching, hub_file, need
from tdm_core.evaluation.metrics.items import ItemMetric, Pixels
from tdm_core.evaluation.suites import Item

if TYPE_CHECKING:
    from torch import Tensor, nn

Features = NDArray[np.float64]
HPS_HEAD = ("xswu/HPSv2", "HPS_v2.1_compressed.pt")
AESTHETIC_HEAD = ("camenduru/improved-aesthetic-predictor", "sac+logos+ava1-l14-linearMSE.pth")
AESTHETIC_WIDTHS = (1024, 128, 64, 16, 1)
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class Encoder(Protocol):
    """Pictures and texts into one space; rows need not have unit length."""

    name: str

    def pictures(self, pictures: Sequence[Pixels]) -> Features: ...

    def texts(self, texts: Sequence[str]) -> Features: ...


class TransformersClip:
    """A CLIP of transformers, from the Hub or a folder; needs no torchvision."""

    def __init__(self, repository: str) -> None:
        from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

        self.name = repository
        with fetching(f"CLIP {repository}"):
            model = CLIPModel.from_pretrained(repository)
            self._tokenizer = CLIPTokenizer.from_pretrained(repository)
            self._processor = CLIPImageProcessorPil.from_pretrained(repository)
        self._model = model.eval().to(device())

    def pictures(self, pictures: Sequence[Pixels]) -> Features:
        import torch

        inputs = self._processor(images=[Image.fromarray(each) for each in pictures], return_tensors="pt").to(device())
        with torch.inference_mode():
            return _rows(self._model.get_image_features(**inputs).pooler_output)

    def texts(self, texts: Sequence[str]) -> Features:
        import torch

        inputs = self._tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt").to(device())
        with torch.inference_mode():
            return _rows(self._model.get_text_features(**inputs).pooler_output)


class OpenClip:
    """A CLIP of open_clip; ``checkpoint`` replaces its weights, all of them."""

    def __init__(
        self, model: str, *, metric: str, pretrained: str | None = None, checkpoint: tuple[str, str] | None = None,
        antialias: bool | None = None,
    ) -> None:  # fmt: skip
        import torch

        open_clip: Any = need("open_clip", metric, "eval")
        self.name = f"open_clip {model} {pretrained or checkpoint}"
        with fetching(f"{metric}: {self.name}"):
            self._model, _, self._transform = open_clip.create_model_and_transforms(model, pretrained=pretrained)
            if checkpoint:
                weights = torch.load(hub_file(*checkpoint, metric), map_location="cpu", weights_only=True)
                self._model.load_state_dict(weights["state_dict"], strict=True)
        self._model.eval().to(device())
        self._tokenize = open_clip.get_tokenizer(model)
        self._antialias = antialias

    def pictures(self, pictures: Sequence[Pixels]) -> Features:
        import torch

        side = self._model.visual.image_size
        side = side if isinstance(side, int) else side[0]
        if self._antialias is None:
            batch = torch.stack([self._transform(Image.fromarray(each)) for each in pictures])
        else:
            batch = torch.stack([letterbox(each, side, antialias=self._antialias) for each in pictures])
        with torch.inference_mode():
            return _rows(self._model.encode_image(batch.to(device())))

    def texts(self, texts: Sequence[str]) -> Features:
        import torch

        with torch.inference_mode():
            return _rows(self._model.encode_text(self._tokenize(list(texts)).to(device())))


def letterbox(pixels: Pixels, side: int, *, antialias: bool) -> Tensor:
    """HPS's preparation: the tensor resized to fit, padded with black, then normalised: [3, side, side]."""
    import torch

    x = torch.from_numpy(np.array(pixels)).permute(2, 0, 1).float()[None] / 255
    scale = side / max(x.shape[-2:])
    size = [round(each * scale) for each in x.shape[-2:]]
    if scale != 1:
        x = torch.nn.functional.interpolate(x, size=size, mode="bicubic", antialias=antialias)
    down, across = side - size[0], side - size[1]
    x = torch.nn.functional.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return ((x - mean) / std)[0]


def crop_and_shrink(pixels: Pixels, side: int) -> Pixels:
    """The largest square in the middle, by Lanczos at ``side``: what DMD2 does before its scores."""
    height, width = pixels.shape[:2]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    square = Image.fromarray(pixels[top : top + short, left : left + short])
    return np.asarray(square.resize((side, side), Image.Resampling.LANCZOS))


def cosines(first: Features, second: Features) -> Features:
    """Row by row: [N, D] and [N, D] -> [N]."""
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.einsum("nd,nd->n", first, second) / norms


@dataclass(frozen=True, kw_only=True)
class CosineScorer:
    """``scale * cosine`` of picture and prompt."""

    encoder: Encoder
    scale: float = 1.0
    clamp: bool = False
    prefix: str = ""
    crop_px: int | None = None
    notes: dict[str, str] = field(default_factory=dict)

    def fingerprint(self) -> dict[str, str]:
        resize = f"centre crop, Lanczos {self.crop_px}" if self.crop_px else "the model's own"
        scale = "0-1" if self.scale == 1 else f"x{self.scale:g}"
        chosen = {"model": self.encoder.name, "scale": scale, "clamp": str(self.clamp), "prefix": self.prefix}
        return chosen | {"resize": resize} | self.notes

    def score(self, pictures: Sequence[Pixels], items: Sequence[Item]) -> list[float]:
        shown = [crop_and_shrink(each, self.crop_px) for each in pictures] if self.crop_px else pictures
        texts = [self.prefix + item.asked for item in items]
        values = self.scale * cosines(self.encoder.pictures(shown), self.encoder.texts(texts))
        return (np.maximum(values, 0) if self.clamp else values).tolist()


@dataclass(frozen=True, kw_only=True)
class AestheticScorer:
    """A linear head over unit-length picture features.  It sees no prompt: shown beside a fidelity, never alone."""

    encoder: Encoder
    head: nn.Module

    def fingerprint(self) -> dict[str, str]:
        return {"model": self.encoder.name, "head": AESTHETIC_HEAD[1], "scale": "points"}

    def score(self, pictures: Sequence[Pixels], items: Sequence[Item]) -> list[float]:
        import torch

        found = self.encoder.pictures(pictures)
        unit = torch.from_numpy(found / np.linalg.norm(found, axis=1, keepdims=True)).float()
        with torch.inference_mode():
            return [float(value) for value in self.head(unit)[:, 0]]


def aesthetic_head(width: int) -> nn.Sequential:
    """Linear layers without activations, named as the published file names them."""
    from torch import nn

    layers: list[nn.Module] = []
    for number, after in enumerate(AESTHETIC_WIDTHS):
        layers.append(nn.Linear(width, after))
        layers += [nn.Dropout(0.2 if number < 2 else 0.1)] if number < 3 else []
        width = after
    return nn.Sequential(*layers).eval()


def _load_aesthetic() -> AestheticScorer:
    import torch

    head = aesthetic_head(768)
    with fetching(f"aesthetic: {AESTHETIC_HEAD[1]}"):
        weights = torch.load(hub_file(*AESTHETIC_HEAD, "aesthetic"), map_location="cpu", weights_only=True)
        head.load_state_dict({name.removeprefix("layers."): value for name, value in weights.items()}, strict=True)
    return AestheticScorer(encoder=TransformersClip("openai/clip-vit-large-patch14"), head=head)


def _load_hps() -> CosineScorer:
    encoder = OpenClip("ViT-H-14", metric="hps_v2.1", checkpoint=HPS_HEAD, antialias=True)
    return CosineScorer(encoder=encoder, scale=100, notes={"resize": "longest side, bicubic, antialiased"})


PRESETS: dict[str, Callable[[], CosineScorer | AestheticScorer]] = {
    "clip_score/openai-l14": lambda: CosineScorer(encoder=TransformersClip("openai/clip-vit-large-patch14")),
    "clip_score/openai-b32": lambda: CosineScorer(
        encoder=TransformersClip("openai/clip-vit-base-patch32"), scale=100, clamp=True
    ),
    "clip_score/dmd2-g14": lambda: CosineScorer(
        encoder=OpenClip("ViT-g-14", metric="clip_score/dmd2-g14", pretrained="laion2b_s12b_b42k"),
        prefix="A photo depicts ",
        crop_px=256,
    ),
    "hps_v2.1": _load_hps,
    "aesthetic": _load_aesthetic,
}


def metric(name: str) -> ItemMetric:
    return ItemMetric(NAME=name, make=PRESETS[name])


def _rows(features: Tensor) -> Features:
    return features.double().cpu().numpy()
