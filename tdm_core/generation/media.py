"""Pixels to files: one recipe for pictures (lossless PNG) and videos (H.264 mp4), the same bytes for the same pixels.

Files are written whole or not at all: into a temporary name in the same folder, then renamed.
"""

from __future__ import annotations

import io
import os
import subprocess
import tempfile
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from PIL import Image

from tdm_core.generation.sample import Sample


def encode_png(pixels: np.ndarray) -> bytes:
    """Lossless, without any metadata.  pixels: uint8 [H, W, 3]."""
    file = io.BytesIO()
    Image.fromarray(pixels, mode="RGB").save(file, format="PNG", compress_level=6)
    return file.getvalue()


def decode_png(png: bytes) -> np.ndarray:
    """The pixels of a PNG, uint8 [H, W, 3]."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def encode_mp4(frames: np.ndarray, *, fps: int) -> bytes:
    """Nearly lossless H.264 that every browser plays.  frames: uint8 [F, H, W, 3], even height and width."""
    _, height, width, _ = frames.shape
    if height % 2 or width % 2:  # 4:2:0 colour has no half pixels, and ffmpeg would resize in silence
        raise ValueError(f"an mp4 needs even sizes, got {width}x{height}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        writer = imageio_ffmpeg.write_frames(
            str(path),
            (width, height),
            fps=fps,
            codec="libx264",
            quality=None,
            macro_block_size=1,
            output_params=["-crf", "8", "-preset", "medium", "-threads", "1", "-bitexact", "-movflags", "+faststart"],
        )
        writer.send(None)
        for frame in frames:
            writer.send(np.ascontiguousarray(frame))
        writer.close()
        return path.read_bytes()


def decode_mp4(mp4: bytes) -> np.ndarray:
    """The frames of an mp4, uint8 [F, H, W, 3]; colours as its 4:2:0 coding left them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        path.write_bytes(mp4)
        # Not imageio_ffmpeg.read_frames: it leaves its pipes to the garbage collector.
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-i", str(path)]
        command += ["-f", "image2pipe", "-c:v", "ppm", "-"]
        stream = subprocess.run(command, capture_output=True, check=True).stdout
    width, height = map(int, stream.split(b"\n", 2)[1].split())
    header = len(b"P6\n%d %d\n255\n" % (width, height))
    frames = np.frombuffer(stream, np.uint8).reshape(-1, header + 3 * width * height)[:, header:]
    return frames.reshape(-1, height, width, 3)


def encode(sample: Sample, *, fps: int) -> tuple[str, bytes]:
    """The file name's ending and the bytes for a sample."""
    return (".mp4", encode_mp4(sample.media, fps=fps)) if sample.kind == "video" else (".png", encode_png(sample.media))


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that nobody, and no crash, ever sees half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
