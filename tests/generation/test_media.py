"""Pixels to files and back."""

import imageio_ffmpeg
import numpy as np
import pytest

from tdm_core.generation.media import decode_mp4, decode_png, encode_mp4, encode_png, write_whole


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)


def test_png_is_lossless_and_always_the_same(pixels):
    assert np.array_equal(decode_png(encode_png(pixels)), pixels)
    assert encode_png(pixels) == encode_png(pixels.copy())


def test_mp4_has_all_frames_and_is_always_the_same(tmp_path):
    frames = np.stack([np.full((32, 48, 3), 20 * index, np.uint8) for index in range(9)])
    video = encode_mp4(frames, fps=8)
    assert video == encode_mp4(frames, fps=8)
    (tmp_path / "video.mp4").write_bytes(video)
    assert imageio_ffmpeg.count_frames_and_secs(tmp_path / "video.mp4") == (9, pytest.approx(9 / 8, abs=0.02))


def test_mp4_gives_its_frames_back_in_order_and_nearly_as_they_were():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (9, 4, 6, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    decoded = decode_mp4(encode_mp4(coarse, fps=8))
    assert decoded.shape == coarse.shape and decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - coarse).mean() < 6  # the edges between the squares lose colour, 4:2:0


def test_mp4_of_odd_size_is_refused():
    with pytest.raises(ValueError, match="even sizes, got 31x32"):
        encode_mp4(np.zeros((2, 32, 31, 3), np.uint8), fps=8)


def test_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    write_whole(path, b"old")

    def full_disk(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tdm_core.generation.media.os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
