"""Both sides of a blind pair in one lossless picture whose bytes tell nothing but its pixels.

The pixels are stored, not compressed: then the file's length follows from the picture's size alone. Compressed, the
smoother side would pack smaller, and padding could only hide that up to a bound known beforehand. No metadata, no
choices of an encoder: signature, header, one data chunk, end.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

SPOILED_TILES = 8  # a side
SPOILED_STEP = 27
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def pack_pair(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> bytes:
    """A PNG [H, 2W] with ``left`` and ``right`` side by side; both uint8 [H, W, 3].

    Raises:
        ValueError: if the two differ in shape or are no RGB pictures.

    Source: PNG specification, third edition (W3C 2025); stored blocks: RFC 1951, 3.2.4.
    """
    if left.shape != right.shape or left.ndim != 3 or left.shape[2] != 3:
        raise ValueError(f"a packed pair needs two [H, W, 3] of one size, got {left.shape} and {right.shape}")
    if left.dtype != np.uint8 or right.dtype != np.uint8:
        raise ValueError(f"a packed pair needs uint8 pixels, got {left.dtype} and {right.dtype}")
    both = np.concatenate([left, right], axis=1)
    height, width, _ = both.shape
    rows = np.zeros((height, 1 + width * 3), dtype=np.uint8)  # each row starts with its filter: 0 for none
    rows[:, 1:] = both.reshape(height, width * 3)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB, not interlaced
    data = zlib.compress(rows.tobytes(), level=0)
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def spoil(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture with its tiles in another order, so that anybody who looks sees it is broken; uint8 [..., H, W, 3].

    Its colours stay the same, and so does its size; always the same for the same picture size, so in all frames.
    """
    height, width = picture.shape[-3:-1]
    spoiled = picture.copy()
    tile_height, tile_width = height // SPOILED_TILES, width // SPOILED_TILES
    places = [
        (
            ...,
            slice(row * tile_height, (row + 1) * tile_height),
            slice(column * tile_width, (column + 1) * tile_width),
            slice(None),
        )
        for row in range(SPOILED_TILES)
        for column in range(SPOILED_TILES)
    ]
    # A step that shares no factor with the number of tiles moves each of them, and no two neighbours alike.
    for index, place in enumerate(places):
        spoiled[place] = picture[places[(index * SPOILED_STEP + 3) % len(places)]]
    return spoiled


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
