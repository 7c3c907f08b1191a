"""Both sides of a blind pair as one video, whose container tells nothing: every frame is equally long in each of them.

One mp4 per way round: left and right in one frame, so both play on one clock. Both sides are coded alike: constant
quantiser, no rate control, no frame whose kind depends on its content, no metadata; colours are converted side by
side, so that none bleeds over the seam. H.264 packs a calm side smaller than a lively one, so the frames of all the
bodies of a pair are filled up with filler data to one length: then files, boxes and sample tables are equal to the
byte, whatever lies where. What differs is what a frame's own data are, and how long: a function of the pixels alone.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

BLOCK = 16  # macroblocks must not span both sides
QUANTISER = 10  # of 51: about 50 dB, and below 16 H.264 smooths nothing over the borders of its blocks
GROUP = 8  # frames from one that stands alone to the next, so that stepping and seeking are quick
FILLER = 12  # Rec. ITU-T H.264, table 7-1
LEAST_FILLER = 3  # its header, one byte, the end
PREFIX = 4  # a start code here, a length in the mp4
KEPT = (1, 5, 7, 8)  # slices and parameter sets; what goes is x264's note about itself
X264 = "scenecut=0:slices=1:repeat-headers=1:colorprim=bt709:transfer=bt709:colormatrix=bt709:range=tv"
BT709 = np.array([[0.2126, 0.7152, 0.0722], [-0.1146, -0.3854, 0.5], [0.5, -0.4542, -0.0458]])  # R'G'B' -> Y', Cb, Cr

Frames = NDArray[np.uint8]
Sides = tuple[str, str]


def pack_videos(sides: Mapping[str, Frames], ways: list[Sides], *, fps: int) -> dict[Sides, bytes]:
    """An mp4 [F, H, 2W] for each of ``ways``, a left and a right side by name, all of one length.

    Args:
        sides: name -> uint8 [F, H, W, 3], all of one shape; height even, width a multiple of 16.

    Raises:
        ValueError: if the sides differ in shape or cannot be coded.
    """
    shapes = {frames.shape for frames in sides.values()}
    if len(shapes) != 1 or any(frames.dtype != np.uint8 for frames in sides.values()):
        raise ValueError(f"packed videos need uint8 frames of one shape, got {sorted(map(str, shapes))}")
    _, height, width, channels = shapes.pop()
    if height % 2 or width % BLOCK or channels != 3:
        raise ValueError(f"a side of a packed video needs an even height and a width that is a multiple of {BLOCK}")
    planes = {name: to_yuv(frames) for name, frames in sides.items()}
    streams = {(left, right): _encode(planes[left], planes[right], fps) for left, right in ways}
    longest = max(_length(frame) for stream in streams.values() for frame in stream)
    return {way: _mux([_filled(frame, longest) for frame in stream], fps=fps) for way, stream in streams.items()}


def to_yuv(frames: Frames) -> tuple[Frames, Frames, Frames]:
    """Y [F, H, W], Cb and Cr [F, H/2, W/2] of uint8 [F, H, W, 3]; BT.709, limited range, colours averaged over 2 x 2.

    Source: Rec. ITU-R BT.709-6, items 3.2 to 3.5.
    """
    ypbpr = frames.astype(np.float32) / 255 @ BT709.T.astype(np.float32)
    count, height, width = frames.shape[:3]
    quarters = ypbpr[..., 1:].reshape(count, height // 2, 2, width // 2, 2, 2).mean(axis=(2, 4))
    luma = np.rint(16 + 219 * ypbpr[..., 0]).astype(np.uint8)
    chroma = np.rint(128 + 224 * quarters).astype(np.uint8)
    return luma, chroma[..., 0], chroma[..., 1]


def _encode(left: tuple[Frames, ...], right: tuple[Frames, ...], fps: int) -> list[list[bytes]]:
    """The H.264 units of each frame, without start codes."""
    planes = [np.concatenate(both, axis=2) for both in zip(left, right, strict=True)]
    raw = b"".join(plane[index].tobytes() for index in range(len(planes[0])) for plane in planes)
    height, width = planes[0].shape[1:]
    stream = _ffmpeg(
        *("-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{width}x{height}", "-r", str(fps), "-i", "-"),
        *("-c:v", "libx264", "-qp", str(QUANTISER), "-g", str(GROUP), "-bf", "0", "-threads", "1"),
        *("-preset", "medium", "-x264-params", X264, "-f", "h264", "-"),
        given=raw,
    )
    frames: list[list[bytes]] = [[]]
    for unit in _units(stream):
        if unit[0] & 31 in KEPT:
            frames[-1].append(unit)
        if unit[0] & 31 in (1, 5):  # with one slice a frame, it ends the frame
            frames.append([])
    return frames[:-1]


def _units(stream: bytes) -> list[bytes]:
    return [unit.rstrip(b"\0") for unit in re.split(b"\0\0\1", stream)[1:]]


def _length(frame: list[bytes]) -> int:
    return sum(len(unit) + PREFIX for unit in frame)


def _filled(frame: list[bytes], longest: int) -> bytes:
    filler = bytes([FILLER]) + b"\xff" * (longest - _length(frame) + LEAST_FILLER - 2) + b"\x80"
    return b"".join(b"\0\0\0\1" + unit for unit in [*frame, filler])


def _mux(frames: list[bytes], *, fps: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pair.mp4"
        _ffmpeg(
            *("-f", "h264", "-framerate", str(fps), "-i", "-", "-c", "copy", "-fflags", "+bitexact"),
            *("-movflags", "+faststart", str(path)),
            given=b"".join(frames),
        )
        return path.read_bytes()


def _ffmpeg(*arguments: str, given: bytes) -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", *arguments]
    return subprocess.run(command, input=given, capture_output=True, check=True).stdout
