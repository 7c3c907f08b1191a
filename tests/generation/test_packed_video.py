import numpy as np
import pytest

from tdm_core.generation.media import decode_mp4
from tdm_core.generation.packed_video import FILLER, pack_videos, to_yuv

FRAMES, SIZE = 9, 64
WAYS = [("lively", "calm"), ("calm", "lively"), ("calm", "calm")]


def clips():
    """A clip of blocks that all change, and one that brightens a little; both have colours."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(256, size=(FRAMES, 8, 8, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    slope = np.linspace(0, 200, SIZE, dtype=np.uint8)
    calm = np.zeros((FRAMES, SIZE, SIZE, 3), np.uint8)
    calm[..., 0], calm[..., 1] = slope, slope[:, None]
    calm[..., 2] = 5 * np.arange(FRAMES, dtype=np.uint8)[:, None, None]
    return {"lively": blocks, "calm": calm}


@pytest.fixture(scope="module")
def bodies():
    return pack_videos(clips(), WAYS, fps=8)


def boxes(mp4, start=0, end=None):
    """(kind, content) of every box of an mp4, those inside others too."""
    end = len(mp4) if end is None else end
    while start < end:
        length, kind = int.from_bytes(mp4[start : start + 4]), mp4[start + 4 : start + 8]
        yield kind, mp4[start + 8 : start + length]
        if kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"udta", b"edts", b"dinf"):
            yield from boxes(mp4, start + 8, start + length)
        start += length


def units(mp4):
    """The H.264 units of the whole stream, each frame in its order."""
    [stream] = [content for kind, content in boxes(mp4) if kind == b"mdat"]
    found = []
    while stream:
        length = int.from_bytes(stream[:4])
        found.append(stream[4 : 4 + length])
        stream = stream[4 + length :]
    return found


def test_both_sides_come_back_in_their_places_and_colours(bodies):
    sides = clips()
    for (left, right), body in bodies.items():
        shown = decode_mp4(body).astype(int)
        assert shown.shape == (FRAMES, SIZE, 2 * SIZE, 3)
        for place, name in ((shown[:, :, :SIZE], left), (shown[:, :, SIZE:], right)):
            assert np.abs(place - sides[name]).mean() < 3, (left, right)


def test_both_ways_round_are_coded_alike(bodies):
    """Also at the seam, over which colours averaged across it would bleed."""
    one_way, other_way = (decode_mp4(bodies[way]).astype(int) for way in WAYS[:2])
    difference = np.abs(np.roll(one_way, SIZE, axis=2) - other_way)
    assert difference.mean() < 0.6
    assert difference[:, :, SIZE - 2 : SIZE + 2].mean() < 1.2


def test_everything_but_the_frames_own_data_is_equal_to_the_byte(bodies):
    containers = {body[: body.index(b"mdat")] for body in bodies.values()}
    assert len(containers) == 1
    assert len({len(body) for body in bodies.values()}) == 1
    kinds = {tuple(unit[0] & 31 for unit in units(body)) for body in bodies.values()}
    assert len(kinds) == 1
    for body in bodies.values():
        [sizes] = [content for kind, content in boxes(body) if kind == b"stsz"]
        assert int.from_bytes(sizes[4:8]) > 0  # one size for all: nothing says which frame was hard to code


def test_nothing_travels_but_frames_parameters_and_filler(bodies):
    for body in bodies.values():
        assert {unit[0] & 31 for unit in units(body)} == {1, 5, 7, 8, FILLER}
        assert sum(unit[0] & 31 in (1, 5) for unit in units(body)) == FRAMES
        for word in (b"x264", b"Lavc", b"Lavf", b"Software", b"options"):
            assert word not in body
        creation = [content[4:12] for kind, content in boxes(body) if kind in (b"mvhd", b"tkhd", b"mdhd")]
        assert set(creation) == {bytes(8)}


@pytest.mark.parametrize("fps", [1, 8, 24])
def test_a_clip_lasts_as_long_as_its_frames(fps):
    """A browser tells the number of a frame by its time."""
    [body] = pack_videos({"a": clips()["calm"]}, [("a", "a")], fps=fps).values()
    for kind in (b"mvhd", b"mdhd"):
        [header] = [content for name, content in boxes(body) if name == kind]
        ticks, length = int.from_bytes(header[12:16]), int.from_bytes(header[16:20])
        assert length / ticks == pytest.approx(FRAMES / fps, rel=1e-4)


def test_equal_frames_give_equal_bytes(bodies):
    assert pack_videos(clips(), WAYS, fps=8) == bodies


def test_colours_are_those_of_bt709():
    """Worked by hand: Y' = 16 + 219 Y; Cb = 128 + 224 (B - Y) / 1.8556; red, white, black."""
    frame = np.zeros((1, 2, 6, 3), np.uint8)
    frame[:, :, :2, 0], frame[:, :, 2:4] = 255, 255
    luma, blue, red = to_yuv(frame)
    assert luma[0].tolist() == [[63, 63, 235, 235, 16, 16]] * 2
    assert blue[0].tolist() == [[102, 128, 128]]
    assert red[0].tolist() == [[240, 128, 128]]


@pytest.mark.parametrize("shape", [(3, 16, 20, 3), (3, 15, 16, 3), (3, 16, 16, 4)])
def test_sizes_that_would_mix_the_sides_are_refused(shape):
    with pytest.raises(ValueError, match="multiple of 16"):
        pack_videos({"a": np.zeros(shape, np.uint8)}, [("a", "a")], fps=8)


def test_sides_of_unequal_length_are_refused():
    sides = {"a": np.zeros((3, 16, 16, 3), np.uint8), "b": np.zeros((4, 16, 16, 3), np.uint8)}
    with pytest.raises(ValueError, match="one shape"):
        pack_videos(sides, [("a", "b")], fps=8)
