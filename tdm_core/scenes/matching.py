"""How well each glyph explains each place of a picture: template matching by correlation, over every offset.

At each offset the glyph's window (a tile's rounded square, shrunk to the glyph's 26 px) is explained three ways: by
this glyph over some flat colour, by another glyph within two pixels, and by a flat colour alone.  The confidence is

    1 - |picture - this glyph| / |picture - the nearest other explanation|

so that 1 is an exact glyph, and 0 one that is no nearer than something else: a glyph at half strength, or half blended
with another, comes out near 0, a soft one near 1.  The flat colour is fitted, so that tile and canvas do not matter.
Picture and glyphs are compared after the same slight blur, which forgives an autoencoder's softness but no blend.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from tdm_core.scenes.grammar import KINDS
from tdm_core.scenes.render import GLYPH_PX, Pixels, glyphs, rounded_square

Floats = NDArray[np.float32]

_MARGIN_PX = 2  # how far a glyph may stick out of the picture
_NEAR_PX = 2  # how far off another glyph may be a rival explanation
_NOISE = np.float32(1e-2)  # squared error that proves nothing: about that of one grey level
_KINDS = tuple(KINDS)


@dataclass(frozen=True)
class _Templates:
    """The blurred glyphs: colour [K, 26, 26, 3] premultiplied, clearness (1 - alpha) [K, 26, 26], window [26, 26]."""

    color: Floats
    clear: Floats
    window: Floats


@cache
def _templates(softness_px: float) -> _Templates:
    sprites = np.stack([glyphs()[kind] for kind in _KINDS])
    pad = 8
    sprites = np.pad(sprites, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    sprites = ndimage.gaussian_filter(sprites, (0, softness_px, softness_px, 0))[:, pad:-pad, pad:-pad]
    window = (rounded_square(GLYPH_PX) > 0.99).astype(np.float32)
    return _Templates(color=sprites[..., :3], clear=1 - sprites[..., 3], window=window)


@cache
def _spectra(height: int, width: int, softness_px: float) -> tuple[NDArray[np.complex64], ...]:
    """Conjugate transforms of the kernels: window [F], window x clearness [K, F], window x colour [3, K, F]."""
    glyph = _templates(softness_px)
    kernels = (glyph.window, glyph.window * glyph.clear, np.moveaxis(glyph.window[..., None] * glyph.color, -1, 0))
    return tuple(np.conj(fft.rfft2(kernel, s=(height, width))) for kernel in kernels)


def residuals(pixels: Pixels, softness_px: float) -> tuple[Floats, Floats]:
    """Squared error at every offset: of every glyph over its best flat colour [K, h, w], of a flat colour [h, w].

    With window w, glyph G (premultiplied), clearness u and picture P, per channel, all sums over P being correlations:
    ``min_B sum w (P - G - u B)^2 = sum w (P - G)^2 - (sum w u (P - G))^2 / sum w u^2``
    """
    glyph, picture = _templates(softness_px), pixels.astype(np.float32) / 255
    picture = ndimage.gaussian_filter(picture, (softness_px, softness_px, 0), mode="nearest")
    picture = np.pad(picture, ((_MARGIN_PX, _MARGIN_PX), (_MARGIN_PX, _MARGIN_PX), (0, 0)), mode="edge")
    shape = (fft.next_fast_len(picture.shape[0], real=True), fft.next_fast_len(picture.shape[1], real=True))
    p = fft.rfft2(np.moveaxis(picture, -1, 0), s=shape)
    p_squared = fft.rfft2((picture**2).sum(axis=-1), s=shape)
    w, wu, wg = _spectra(*shape, softness_px)
    products = (p_squared * w)[None], p * w, (p[:, None] * wu).reshape(-1, *w.shape), (p[:, None] * wg).sum(axis=0)
    maps = fft.irfft2(np.concatenate(products), s=shape)
    maps = maps[:, : picture.shape[0] - GLYPH_PX + 1, : picture.shape[1] - GLYPH_PX + 1]
    k = len(_KINDS)
    sum_pp, sum_p, sum_up, sum_gp = maps[0], maps[1:4], maps[4 : 4 + 3 * k].reshape(3, k, *maps.shape[1:]), maps[-k:]
    sum_gg, sum_ug, sum_uu = _constants(glyph)
    with_glyph = sum_pp - 2 * sum_gp + sum_gg - ((sum_up - sum_ug) ** 2).sum(axis=0) / sum_uu
    flat = sum_pp - (sum_p**2).sum(axis=0) / glyph.window.sum()
    return np.maximum(with_glyph, 0) + _NOISE, np.maximum(flat, 0) + _NOISE


def _constants(glyph: _Templates) -> tuple[Floats, Floats, Floats]:
    """Sums over the window: G^2 [K, 1, 1], u G per channel [3, K, 1, 1], u^2 [K, 1, 1]."""
    gg = np.einsum("hw,khwc,khwc->k", glyph.window, glyph.color, glyph.color)
    ug = np.einsum("hw,khw,khwc->ck", glyph.window, glyph.clear, glyph.color)
    uu = np.einsum("hw,khw,khw->k", glyph.window, glyph.clear, glyph.clear)
    return gg[:, None, None], ug[..., None, None], uu[:, None, None]


@dataclass(frozen=True, kw_only=True)
class Place:
    """A glyph's centre (pixels; x to the right, y down) and how much better it explains the picture than all else."""

    kind: str
    x: int
    y: int
    confidence: float


def best_places(pixels: Pixels, *, softness_px: float, apart_px: int, least: float) -> list[Place]:
    """The best explanations of confidence ``least`` or more, none within ``apart_px`` of a better one."""
    with_glyph, flat = residuals(pixels, softness_px)
    ratio = with_glyph.min(axis=0) / flat
    places: list[Place] = []
    while True:
        y, x = divmod(int(ratio.argmin()), ratio.shape[1])
        if 1 - np.sqrt(ratio[y, x]) < least:
            return places
        place = place_of(_KINDS[int(with_glyph[:, y, x].argmin())], with_glyph, flat, y, x)
        if place.confidence >= least:
            places.append(place)
        around(ratio, y, x, apart_px)[:] = np.inf


def place_of(kind: str, with_glyph: Floats, flat: Floats, y: int, x: int) -> Place:
    """The glyph of a kind at one offset of the maps that ``residuals`` gives."""
    index = _KINDS.index(kind)
    rivals = around(with_glyph, y, x, _NEAR_PX).min(axis=(1, 2))
    rivals[index] = flat[y, x]
    confidence = 1 - float(np.sqrt(with_glyph[index, y, x] / rivals.min()))
    centre = GLYPH_PX // 2 - _MARGIN_PX
    return Place(kind=kind, x=x + centre, y=y + centre, confidence=confidence)


def around(maps: Floats, y: int, x: int, radius: int) -> Floats:
    """A view of the maps [..., h, w] within ``radius`` of a place."""
    return maps[..., max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1]
