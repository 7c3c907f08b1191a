import io
import zlib

import numpy as np
import pytest
from PIL import Image

from tdm_core.generation.media import decode_png
from tdm_core.generation.packed import pack_pair, spoil


def noise_and_blank(height=24, width=40):
    rng = np.random.default_rng(0)
    return rng.integers(256, size=(height, width, 3), dtype=np.uint8), np.full((height, width, 3), 200, np.uint8)


def test_both_sides_come_back_to_the_pixel():
    left, right = noise_and_blank()
    assert np.array_equal(decode_png(pack_pair(left, right)), np.concatenate([left, right], axis=1))


def test_length_depends_on_the_size_alone():
    noise, blank = noise_and_blank(128, 128)
    lengths = {len(pack_pair(left, right)) for left in (noise, blank) for right in (noise, blank)}
    assert len(lengths) == 1


@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 5, 3), (256, 512, 3)])
def test_any_size_is_a_png_that_pillow_verifies(shape):
    Image.open(io.BytesIO(pack_pair(np.zeros(shape, np.uint8), np.ones(shape, np.uint8)))).verify()


def test_nothing_travels_but_the_pixels():
    content = pack_pair(*noise_and_blank())
    kinds, at = [], 8
    while at < len(content):
        length = int.from_bytes(content[at : at + 4])
        kinds.append(content[at + 4 : at + 8])
        assert zlib.crc32(content[at + 4 : at + 8 + length]) == int.from_bytes(content[at + 8 + length :][:4])
        at += 12 + length
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]
    assert Image.open(io.BytesIO(content)).info == {}


def test_sides_of_unequal_size_are_refused():
    left, _ = noise_and_blank(24, 40)
    right, _ = noise_and_blank(24, 48)
    with pytest.raises(ValueError, match=r"\(24, 48, 3\)"):
        pack_pair(left, right)


def test_pixels_of_another_type_are_refused():
    left, right = noise_and_blank()
    with pytest.raises(ValueError, match="float32"):
        pack_pair(left.astype(np.float32), right)


@pytest.mark.parametrize("size", [16, 96, 100])
def test_a_spoiled_picture_has_the_same_colours_and_no_tile_in_its_place(size):
    picture = np.random.default_rng(0).integers(256, size=(size, size, 3), dtype=np.uint8)
    spoiled, tile = spoil(picture), size // 8
    assert np.array_equal(np.sort(spoiled.reshape(-1, 3), axis=0), np.sort(picture.reshape(-1, 3), axis=0))
    for row in range(8):
        for column in range(8):
            place = slice(row * tile, (row + 1) * tile), slice(column * tile, (column + 1) * tile)
            assert not np.array_equal(spoiled[place], picture[place])


def test_every_frame_of_a_video_is_spoiled_alike():
    frames = np.random.default_rng(0).integers(256, size=(3, 16, 24, 3), dtype=np.uint8)
    assert np.array_equal(spoil(frames), [spoil(frame) for frame in frames])
