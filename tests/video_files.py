"""Small video files for tests, written with PyAV directly: nothing of the project's own reader or writer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
LOSSLESS = {"qp": "0", "threads": "1", "preset": "ultrafast"}
KR_KB = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114)}
"""BT.709 and BT.601 by their number."""


def smooth_pictures(count: int, width: int = 64, height: int = 48, seed: int = 0) -> list[Pixels]:
    """RGB, coloured, without fine chroma, moving a little from one to the next."""
    random = np.random.default_rng(seed)
    phase = random.uniform(0, 6, (3, 2))
    y, x = np.mgrid[:height, :width]
    return [
        np.stack(
            [128 + 60 * np.sin(x / 15 + p + i / 9) + 50 * np.cos(y / 13 + q) for p, q in phase], -1
        ).astype(np.uint8)
        for i in range(count)
    ]  # fmt: skip


def yuv(pixels: Pixels, matrix: int, full: bool) -> tuple[Pixels, Pixels, Pixels]:
    """4:2:0 planes by the definition (ITU-R BT.601, BT.709), chroma averaged over four pixels."""
    kr, kb = KR_KB[matrix]
    r, g, b = np.moveaxis(pixels / 255.0, -1, 0)
    luma = kr * r + (1 - kr - kb) * g + kb * b
    chroma = np.stack([(b - luma) / (2 - 2 * kb), (r - luma) / (2 - 2 * kr)])
    height, width = luma.shape
    chroma = chroma.reshape(2, height // 2, 2, width // 2, 2).mean((2, 4))
    y = 255 * luma if full else 16 + 219 * luma
    cb, cr = 128 + (255 if full else 224) * chroma
    return tuple(np.rint(plane).clip(0, 255).astype(np.uint8) for plane in (y, cb, cr))  # type: ignore[return-value]


def write_video(
    path: Path,
    pictures: Iterable[Pixels],
    *,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    pixel_format: str = "yuv420p",
    pts: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 25),
    matrix: int | None = None,
    full: bool = False,
    transfer: int = 1,
    aspect: Fraction | None = None,
    turn: tuple[float, bool, bool] | None = None,
    audio: str | None = None,
    seconds: float = 1.0,
    container: str | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """A file of ``pictures`` (RGB), and of noise in the codec ``audio``.

    With ``matrix`` the samples are made by :func:`yuv` and tagged; else FFmpeg converts them and nothing is tagged.
    """
    with av.open(str(path), "w", format=container, options=container_options or {}) as file:
        stream: Any = None
        for number, picture in enumerate(pictures):
            if stream is None:
                stream = file.add_stream(codec, rate=25, options=LOSSLESS if options is None else options)
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = pixel_format
                stream.codec_context.time_base = time_base
                if aspect is not None:
                    stream.codec_context.sample_aspect_ratio = aspect
                if matrix is not None:
                    stream.codec_context.colorspace, stream.codec_context.color_primaries = matrix, matrix
                    stream.codec_context.color_trc, stream.codec_context.color_range = transfer, 2 if full else 1
                sound: Any = file.add_stream(audio, rate=48000, bit_rate=64000) if audio else None
            if matrix is None:
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            else:
                flat = np.concatenate([plane.reshape(-1) for plane in yuv(picture, matrix, full)])
                frame = av.VideoFrame.from_ndarray(flat.reshape(-1, picture.shape[1]), format="yuv420p")
                frame.colorspace, frame.color_range = matrix, 2 if full else 1
            frame.pts, frame.time_base = pts[number] if pts else number, time_base
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
        if sound is not None:
            write_sound(file, sound, seconds)
    if turn is not None:
        turn_mp4(path, *turn)
    return path


def turn_mp4(path: Path, degrees: float, hflip: bool, vflip: bool) -> None:
    """Write a display matrix into an MP4's track header (ISO/IEC 14496-12, 8.3.2): turned counter-clockwise, then
    mirrored."""
    angle = np.deg2rad(degrees)
    x, y = -1 if hflip else 1, -1 if vflip else 1
    turned = [[x * np.cos(angle), -y * np.sin(angle)], [x * np.sin(angle), y * np.cos(angle)]]
    (a, b), (c, d) = np.rint(np.array(turned) * 65536).astype(int)
    content = bytearray(path.read_bytes())
    begin = content.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
    content[begin : begin + 36] = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30]).astype(">i4").tobytes()
    path.write_bytes(bytes(content))


def write_sound(file: Any, stream: Any, seconds: float) -> None:
    """Noise, two channels, 48 kHz."""
    random, done, size = np.random.default_rng(0), 0, 1024
    while done < seconds * 48000:
        frame = av.AudioFrame.from_ndarray(
            random.uniform(-0.2, 0.2, (2, size)).astype(np.float32), format="fltp", layout="stereo"
        )
        frame.sample_rate, frame.pts, frame.time_base = 48000, done, Fraction(1, 48000)
        file.mux(stream.encode(frame))
        done += size
    file.mux(stream.encode(None))


def packets(path: Path, kind: str) -> list[tuple[float, bytes]]:
    """(seconds, content) of the packets of the first stream of ``kind``, "video" or "audio"."""
    with av.open(str(path)) as file:
        stream: Any = getattr(file.streams, kind)[0]
        return [(float(p.pts * p.time_base), bytes(p)) for p in file.demux(stream) if p.pts is not None and p.size]
