"""Clips on disk: frames read one by one, and written back as H.264 with the source's time stamps, colours and audio.

Nothing here grows with the length of a clip. A :class:`Frame` keeps the 8-bit 4:2:0 samples of its file, upright, and
becomes RGB only where somebody looks: what nobody changes goes to the encoder as it came from the decoder.

What is made of a file that has more than that: other chroma formats and 10 bits become 8-bit 4:2:0 in the same range
and matrix; interlaced frames are taken as whole pictures; an odd width or height is continued by its last column or
row, since 4:2:0 needs it even; rotation flags are applied, so that the written clip needs none; transparency,
subtitles and chapters are left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.stream import Disposition
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream
from numpy.typing import NDArray

from fse.refusal import Refusal

Pixels = NDArray[np.uint8]
"""(H, W, 3), RGB."""

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""FFmpeg's name of each container that is written."""

# Demuxers that may open a file. FFmpeg would also take playlists, which name other files, single pictures and text.
_READABLE = "mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,gif,mxf,nut,ivf,dv,h264,hevc,obu,m4v,yuv4mpegpipe"

_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}  # of ISO/IEC 23091-2, which files carry -> swscale's number
_HDR = {16: "PQ", 18: "HLG"}  # transfer characteristics
_UNSPECIFIED = 2
_EXACT = 0x4 | 0x2000 | 0x40000 | 0x80000  # swscale's bicubic, full chroma, accurate rounding, the same bits everywhere


@dataclass(frozen=True)
class Colour:
    """How a clip's samples are to be understood, as numbered by ISO/IEC 23091-2; 2 where the file does not say.

    ``full``: luma spans 0..255, else 16..235.
    """

    matrix: int = _UNSPECIFIED
    primaries: int = _UNSPECIFIED
    transfer: int = _UNSPECIFIED
    full: bool = False

    def swscale(self, height: int) -> tuple[int, ColorRange]:
        """Matrix and range; a matrix that the file leaves open is BT.709 from 720 rows on, else BT.601, as players
        take it."""
        matrix = _MATRICES.get(self.matrix, 1 if height >= 720 else 5)
        return matrix, ColorRange.JPEG if self.full else ColorRange.MPEG


@dataclass(frozen=True)
class Frame:
    """An upright frame of even size.

    Attributes
    ----------
    number : int
        From 0.
    pts, duration : int
        In the clip's time base, counted from the clip's start; duration 0 where the file does not say.
    planes : tuple of arrays
        Y (H, W), Cb and Cr (H / 2, W / 2), uint8.
    colour : Colour
        How to understand them.
    """

    number: int
    pts: int
    duration: int
    planes: tuple[Pixels, Pixels, Pixels]
    colour: Colour

    @property
    def width(self) -> int:
        return int(self.planes[0].shape[1])

    @property
    def height(self) -> int:
        return int(self.planes[0].shape[0])

    @property
    def luma(self) -> Pixels:
        """(H, W), in the clip's range."""
        return self.planes[0]

    def rgb(self, box: tuple[int, int, int, int] | None = None) -> Pixels:
        """(H, W, 3), or the part (left, top, right, bottom) of it; even numbers."""
        left, top, right, bottom = box or (0, 0, self.width, self.height)
        y, cb, cr = self.planes
        half = slice(top // 2, bottom // 2), slice(left // 2, right // 2)
        part = _video_frame((y[top:bottom, left:right], cb[half], cr[half]))
        matrix, levels = self.colour.swscale(self.height)
        converted = part.reformat(
            format="rgb24", src_colorspace=matrix, src_color_range=levels, dst_color_range=ColorRange.JPEG,
            interpolation=_EXACT,
        )  # fmt: skip
        return np.asarray(converted.to_ndarray(), dtype=np.uint8)

    def with_pixels(self, pixels: Pixels, changed: NDArray[np.bool_], left: int = 0, top: int = 0) -> Frame:
        """The frame with ``pixels`` (h, w, 3) at (left, top), where ``changed`` (h, w); all even.

        Elsewhere every sample stays the one that was read. A chroma sample, which four pixels share, is replaced if
        all four are.
        """
        height, width = changed.shape
        four = changed.reshape(height // 2, 2, width // 2, 2).all((1, 3))
        y, cb, cr = (plane.copy() for plane in self.planes)
        new = planes_of(pixels, self.colour, self.height)
        y[top : top + height, left : left + width][changed] = new[0][changed]
        for plane, values in ((cb, new[1]), (cr, new[2])):
            plane[top // 2 : (top + height) // 2, left // 2 : (left + width) // 2][four] = values[four]
        return replace(self, planes=(y, cb, cr))


def planes_of(pixels: Pixels, colour: Colour, height: int | None = None) -> tuple[Pixels, Pixels, Pixels]:
    """Y, Cb and Cr of ``pixels`` (H, W, 3) of even size; ``height`` is that of the whole frame, by which a matrix that
    ``colour`` leaves open is chosen."""
    matrix, levels = colour.swscale(height or len(pixels))
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    return _planes(
        frame.reformat(
            format="yuv420p", dst_colorspace=matrix, dst_color_range=levels, src_color_range=ColorRange.JPEG,
            interpolation=_EXACT,
        )
    )  # fmt: skip


def _video_frame(planes: tuple[Pixels, Pixels, Pixels]) -> av.VideoFrame:
    height, width = planes[0].shape
    packed = np.concatenate([plane.reshape(-1) for plane in planes]).reshape(height * 3 // 2, width)
    return av.VideoFrame.from_ndarray(packed, format="yuv420p")


def _planes(frame: av.VideoFrame) -> tuple[Pixels, Pixels, Pixels]:
    """Copies of the planes of a 4:2:0 frame."""
    y, cb, cr = (
        np.frombuffer(plane, dtype=np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width].copy()  # type: ignore[call-overload]
        for plane in frame.planes
    )
    return y, cb, cr


@dataclass(frozen=True)
class _Orientation:
    """How stored samples become upright ones: transposed, then mirrored left to right and top to bottom."""

    transposed: bool = False
    mirrored: bool = False
    flipped: bool = False

    def upright(self, plane: Pixels) -> Pixels:
        plane = plane.T if self.transposed else plane
        return np.ascontiguousarray(plane[:: -1 if self.flipped else 1, :: -1 if self.mirrored else 1])


def _orientation(frame: av.VideoFrame, path: Path) -> _Orientation:
    """Out of the display matrix, which sends (x, y) to (a x + c y, b x + d y)."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return _Orientation()
    a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(cast(Any, data)), np.int32)[:5])
    if b == c == 0 and a and d:
        return _Orientation(False, a < 0, d < 0)
    if a == d == 0 and b and c:
        return _Orientation(True, c < 0, b < 0)
    raise Refusal(f"{path} is turned by an angle that is no quarter turn; re-encode it upright with `ffmpeg -i`")


def _open(path: Path) -> InputContainer:
    if not path.is_file():
        raise Refusal(f"there is no video file {path}; check the name")
    options = {"protocol_whitelist": "file", "format_whitelist": _READABLE}
    try:
        return av.open(f"file:{path}", options=options)
    except (av.FFmpegError, ValueError) as error:
        raise Refusal(f"{path} is no video, or damaged ({_reason(error)}); use a whole MP4, MOV or MKV file") from error


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).lower()


class ClipReader:
    """The frames of a video file, in the order of their time; a context manager.

    Attributes
    ----------
    width, height : int
        Upright and even.
    rate : Fraction
        Mean frames per second.
    time_base : Fraction
        Seconds a unit of time stamps.
    colour : Colour
    frames : int or None
        How many the file claims to hold.
    audio : int
        Audio tracks.
    start : Fraction
        Seconds at which the file's own time begins, taken off every time stamp.

    Raises
    ------
    Refusal
        On opening: when the file is absent, no video, damaged, empty, HDR, of pixels that are not square, or turned by
        other than quarter turns. While reading: when it is damaged, truncated, or changes its size.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._container = _open(path)
        try:
            self._stream = self._video_stream()
            # A decoder repairs damage in silence unless it is told to stop.
            self._stream.codec_context.options = {"err_detect": "explode"}
            self._refuse_truncated()
            self._decoded = self._decode()
            first = next(self._decoded, None)
            if first is None:
                raise Refusal(f"{path} holds no frame; use another file")
            self._first: av.VideoFrame | None = first
            self._size = (first.width, first.height)
            self._orientation = _orientation(first, path)
            self._describe(first)
        except BaseException:
            self._container.close()
            raise

    def _video_stream(self) -> VideoStream:
        streams = [s for s in self._container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams:
            only = ", only sound" if self._container.streams.audio else ""
            raise Refusal(f"{self.path} holds no video{only}; use a file with pictures")
        if getattr(streams[0], "codec_context", None) is None:
            raise Refusal(f"{self.path} is encoded in a way that cannot be read; re-encode it with `ffmpeg -i`")
        return streams[0]

    def _refuse_truncated(self) -> None:
        entries = getattr(self._stream, "index_entries", ())  # of MP4: every packet's place, written ahead of them all
        end = max((entry.pos + entry.size for entry in entries), default=0)
        if end > self.path.stat().st_size:
            raise Refusal(f"{self.path} is truncated: it ends before its last frame; obtain it again")

    def _describe(self, first: av.VideoFrame) -> None:
        stream, context = self._stream, self._stream.codec_context
        aspect = _fraction(stream.sample_aspect_ratio)
        if aspect is not None and aspect != 1:
            raise Refusal(
                f"{self.path} has pixels of {aspect.numerator}:{aspect.denominator}, not square; "
                "re-encode it with `ffmpeg -vf scale=iw*sar:ih,setsar=1`"
            )
        if context.color_trc in _HDR:
            raise Refusal(
                f"{self.path} is an HDR clip ({_HDR[context.color_trc]}); convert it to SDR (BT.709) before use"
            )
        rgb = first.format.is_rgb
        self.colour = Colour(
            _UNSPECIFIED if rgb else int(first.colorspace),
            int(context.color_primaries),
            int(context.color_trc),
            not rgb and (first.color_range == ColorRange.JPEG or first.format.name.startswith("yuvj")),
        )
        self.time_base = _fraction(stream.time_base) or Fraction(1, 90000)
        self.rate = _fraction(stream.average_rate) or _fraction(stream.guessed_rate) or Fraction(25)
        self.frames: int | None = stream.frames or None
        # Transport streams do not begin at 0. Sound that begins before the picture keeps its lead.
        self.audio = len(self._container.streams.audio)
        self.start = Fraction(max(self._container.start_time or 0, 0), av.time_base)
        turned = self._size[::-1] if self._orientation.transposed else self._size
        self.width, self.height = (side + side % 2 for side in turned)

    def _decode(self) -> Iterator[av.VideoFrame]:
        try:
            for packet in self._container.demux(self._stream):
                for frame in packet.decode():
                    if packet.is_corrupt or frame.is_corrupt:
                        raise Refusal(f"{self.path} is damaged{_near(frame)}; repair or re-encode it first")
                    yield frame
        except av.FFmpegError as error:
            raise Refusal(f"{self.path} is damaged ({_reason(error)}); repair or re-encode it first") from error

    def __iter__(self) -> Iterator[Frame]:
        """Once."""
        if self._first is None:
            raise ValueError("a clip is read once; open it again")
        head, self._first = self._first, None
        number, last, step = 0, -1, max(round(1 / (self.rate * self.time_base)), 1)
        offset = round(self.start / self.time_base)
        decoded: av.VideoFrame | None = head
        del head
        end = Fraction(0)
        while decoded is not None:
            if (decoded.width, decoded.height) != self._size:
                raise Refusal(f"{self.path} changes its size{_near(decoded)}; cut it there into two files")
            pts = last + step if decoded.pts is None else decoded.pts - offset
            last = pts = max(pts, last + 1, 0)  # encoders want time to advance
            yield Frame(number, pts, decoded.duration or 0, self._upright_planes(decoded), self.colour)
            end = (pts + (decoded.duration or step)) * self.time_base
            number += 1
            decoded = next(self._decoded, None)
        if (claimed := self._claimed_seconds()) is not None and end < claimed - Fraction(1, 2):
            raise Refusal(
                f"{self.path} is truncated: {float(end):.1f} of {float(claimed):.1f} s are there; obtain it again"
            )

    def _claimed_seconds(self) -> Fraction | None:
        """The length of the picture that a Matroska file was written with; MP4's is checked on opening."""
        try:
            hours, minutes, seconds = self._stream.metadata["DURATION"].split(":")
            return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
        except (KeyError, ValueError):
            return None

    def _upright_planes(self, frame: av.VideoFrame) -> tuple[Pixels, Pixels, Pixels]:
        if frame.format.name not in ("yuv420p", "yuvj420p"):
            matrix, levels = self.colour.swscale(frame.height)
            kept = ColorRange.JPEG if frame.format.is_rgb else levels
            frame = frame.reformat(
                format="yuv420p", src_colorspace=matrix, dst_colorspace=matrix, src_color_range=kept,
                dst_color_range=levels, interpolation=_EXACT,
            )  # fmt: skip
        y, cb, cr = (self._orientation.upright(plane) for plane in _planes(frame))
        height, width = y.shape
        if height % 2 or width % 2:
            y = np.pad(y, ((0, height % 2), (0, width % 2)), mode="edge")
        return y, cb, cr

    def close(self) -> None:
        self._first = None
        self._container.close()

    def __enter__(self) -> ClipReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _fraction(value: Any) -> Fraction | None:
    """Of PyAV's rational numbers, whose type has changed; None for one that is not set."""
    return Fraction(value.numerator, value.denominator) if value else None


def _near(frame: av.VideoFrame) -> str:
    return "" if frame.time is None else f" near {frame.time:.2f} s"


@dataclass(frozen=True)
class Encoding:
    """x264's settings.

    One thread, since the number of threads changes the bits that it writes. No B-frames: a container takes a clip's
    length from the times of decoding, which with them lag behind the times that are shown by frames of any length.

    ``crf``: constant quality, lower is better; ``preset``: time against size.
    """

    crf: float = 17
    preset: str = "medium"

    def options(self) -> dict[str, str]:
        return {"crf": str(self.crf), "preset": self.preset, "threads": "1", "bf": "0"}


class ClipWriter:
    """An H.264 clip in an MP4, MOV or MKV file, written whole or not at all; a context manager.

    Parameters
    ----------
    target : Path
        Its suffix chooses the container. An existing file is replaced when all is written.
    width, height : int
        Even.
    rate : Fraction
        Nominal frames per second.
    time_base : Fraction, optional
        Of the frames' time stamps; 1 / rate by default.
    colour : Colour
    audio : Path, optional
        A file whose audio tracks go along, packet by packet, not encoded again.
    start : Fraction
        Seconds that are taken off their time stamps.

    Raises
    ------
    Refusal
        When the container is not one of those, cannot hold the audio, or the file cannot be written.
    """

    def __init__(
        self,
        target: Path,
        width: int,
        height: int,
        rate: Fraction,
        time_base: Fraction | None = None,
        colour: Colour | None = None,
        *,
        audio: Path | None = None,
        start: Fraction = Fraction(0),
        encoding: Encoding | None = None,
    ) -> None:
        if target.suffix.lower() not in CONTAINERS:
            raise Refusal(f"{target} must end in {', '.join(CONTAINERS)}; choose another name")
        self.target, self.width, self.height = target, width, height
        self.colour, self.time_base = colour or Colour(), time_base or 1 / rate
        self._partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        self._audio: _AudioCopy | None = None
        self._durations: dict[int, int] = {}
        self._open = True
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            container = CONTAINERS[target.suffix.lower()]
            options = {"fflags": "+bitexact"}  # no date, no random number of the file
            if container != "matroska":
                options["movflags"] = "faststart"  # browsers play a file whose index comes first while it loads
            self._container: OutputContainer = av.open(f"file:{self._partial}", "w", format=container, options=options)
        except (OSError, av.FFmpegError) as error:
            raise self._unwritable(error) from error
        try:
            self._stream = self._video_stream(rate, encoding or Encoding())
            if audio is not None:
                self._audio = _AudioCopy(audio, self._container, target, start)
            self._container.start_encoding()
        except (OSError, ValueError, av.FFmpegError) as error:
            self.discard()
            raise error if isinstance(error, Refusal) else self._unwritable(error) from error

    @classmethod
    def like(cls, reader: ClipReader, target: Path, encoding: Encoding | None = None) -> ClipWriter:
        """A writer for the frames of ``reader``, with the audio of its file."""
        if target.exists() and target.samefile(reader.path):
            raise Refusal(f"{target} is the source itself; choose another name for the result")
        audio = reader.path if reader.audio else None
        return cls(
            target, reader.width, reader.height, reader.rate, reader.time_base, reader.colour, audio=audio,
            start=reader.start, encoding=encoding,
        )  # fmt: skip

    def _video_stream(self, rate: Fraction, encoding: Encoding) -> VideoStream:
        stream = self._container.add_stream("libx264", rate=rate.limit_denominator(100_000), options=encoding.options())
        stream.width, stream.height, stream.pix_fmt = self.width, self.height, "yuv420p"
        context: Any = stream.codec_context
        context.time_base = self.time_base
        context.colorspace, context.color_primaries = self.colour.matrix, self.colour.primaries
        context.color_trc = self.colour.transfer
        context.color_range = int(ColorRange.JPEG if self.colour.full else ColorRange.MPEG)
        return stream

    def _unwritable(self, error: Exception) -> Refusal:
        return Refusal(
            f"the video {self.target} cannot be written ({_reason(error)}); make room or choose another place"
        )

    @property
    def audio(self) -> int:
        """Audio tracks that are copied."""
        return self._audio.tracks if self._audio else 0

    def write(self, frame: Frame) -> None:
        """The next frame; its time stamp must be larger than the last one's."""
        encoded = _video_frame(frame.planes)
        encoded.pts, encoded.time_base = frame.pts, self.time_base
        encoded.colorspace = self.colour.matrix
        encoded.color_range = int(ColorRange.JPEG if self.colour.full else ColorRange.MPEG)
        if frame.duration:
            self._durations[frame.pts] = frame.duration
        self._mux(encoded)

    def _mux(self, frame: av.VideoFrame | None) -> None:
        try:
            for packet in self._stream.encode(frame):
                # Not the encoder's guess from the frame rate: the last one decides the clip's length.
                if packet.pts is not None and (duration := self._durations.pop(packet.pts, None)):
                    packet.duration = duration
                if self._audio is not None and packet.dts is not None:
                    self._audio.copy_until(packet.dts * self.time_base)
                self._container.mux(packet)
            if frame is None and self._audio is not None:
                self._audio.copy_until(None)
        except (OSError, av.FFmpegError) as error:
            raise self._unwritable(error) from error

    def close(self) -> None:
        """Finish the file and give it its name; a second time does nothing."""
        if not self._open:
            return
        self._open = False
        try:
            self._mux(None)
            self._container.close()
            if self._audio is not None:
                self._audio.close()
            self._partial.replace(self.target)
        except (OSError, av.FFmpegError) as error:
            raise self._unwritable(error) from error
        finally:
            self._partial.unlink(missing_ok=True)

    def discard(self) -> None:
        """Leave nothing behind."""
        self._open = False
        try:
            self._container.close()
        except (OSError, ValueError, av.FFmpegError):
            pass  # of a file that is deleted
        finally:
            if self._audio is not None:
                self._audio.close()
            self._partial.unlink(missing_ok=True)

    def __enter__(self) -> ClipWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


class _AudioCopy:
    """The audio packets of ``source``, handed to ``container`` as the video advances."""

    def __init__(self, source: Path, container: OutputContainer, target: Path, start: Fraction) -> None:
        self.source, self.start = source, start
        self._container = container
        self._input = _open(source)
        try:
            self._streams: dict[int, Any] = {}
            for stream in self._input.streams.audio:
                self._streams[stream.index] = self._output(stream, container, target)
        except BaseException:
            self._input.close()
            raise
        self.tracks = len(self._streams)
        self._packets = iter(self._input.demux(list(self._input.streams.audio)))
        self._waiting: av.Packet[Any] | None = None

    def _output(self, stream: AudioStream, container: OutputContainer, target: Path) -> Any:
        name = stream.codec_context.codec.canonical_name if stream.codec_context else "unknown"
        if name not in container.supported_codecs:
            raise Refusal(
                f"{target.suffix} files cannot hold the sound of {self.source} ({name}); "
                "re-encode the sound first with `ffmpeg -i IN -c:v copy -c:a aac OUT.mkv`"
            )
        return container.add_stream_from_template(stream)

    def copy_until(self, seconds: Fraction | None) -> None:
        """The packets up to ``seconds``, or all that remain."""
        while (packet := self._next()) is not None:
            unit = _fraction(packet.time_base)
            assert packet.dts is not None
            assert unit is not None
            if seconds is not None and packet.dts * unit - self.start > seconds:
                self._waiting = packet
                return
            offset = round(self.start / unit)
            packet.dts -= offset
            if packet.pts is not None:
                packet.pts -= offset
            packet.stream = self._streams[packet.stream.index]
            self._container.mux(packet)

    def _next(self) -> av.Packet[Any] | None:
        if self._waiting is not None:
            packet, self._waiting = self._waiting, None
            return packet
        try:
            return next((packet for packet in self._packets if packet.dts is not None), None)
        except av.FFmpegError as error:
            raise Refusal(
                f"the sound of {self.source} is damaged ({_reason(error)}); repair or remove it first"
            ) from error

    def close(self) -> None:
        self._input.close()
