"""What a colour is called: the nearest named one in CIELAB, or none where all are far."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

Rgb = tuple[int, int, int]

_XYZ_OF_RGB = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE_D65 = np.array([0.95047, 1.0, 1.08883])


def to_lab(rgb: ArrayLike) -> NDArray[np.float64]:
    """CIELAB (D65) of sRGB values in 0..255: [..., 3] -> [..., 3]."""
    value = np.asarray(rgb, dtype=np.float64) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _XYZ_OF_RGB.T / _WHITE_D65
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def color_name(rgb: ArrayLike, names: Mapping[str, Rgb], reject_distance: float) -> str | None:
    """The name of the nearest colour; None if it is ``reject_distance`` or more away (Euclidean, in Lab)."""
    distances = np.linalg.norm(to_lab(list(names.values())) - to_lab(rgb), axis=-1)
    nearest = int(distances.argmin())
    return tuple(names)[nearest] if distances[nearest] < reject_distance else None
