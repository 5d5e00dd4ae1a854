"""Reading and writing clips: colours, time, sound and faults, on real encoders."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fse.refusal import Refusal
from fse.video.clip import ClipReader, ClipWriter, Colour, Encoding, Frame, planes_of
from tests.video_files import LOSSLESS, packets, smooth_pictures, write_sound, write_video


def read(path: Path) -> tuple[list[Frame], ClipReader]:
    with ClipReader(path) as reader:
        return list(reader), reader


def copy(source: Path, target: Path, encoding: Encoding | None = None) -> ClipReader:
    """As it is, through reader and writer; what the copy then is."""
    with ClipReader(source) as reader, ClipWriter.like(reader, target, encoding) as writer:
        for frame in reader:
            writer.write(frame)
    return read(target)[1]


@pytest.mark.parametrize("matrix", [1, 6])
@pytest.mark.parametrize("full", [False, True])
def test_colours_are_those_of_the_matrix_and_range_and_stay(tmp_path: Path, matrix: int, full: bool) -> None:
    """A level more or less, for 8-bit rounding there and back; a wrong range would be 12 off, a wrong matrix 9."""
    pictures = smooth_pictures(3)
    source = write_video(tmp_path / "a.mp4", pictures, matrix=matrix, full=full)
    frames, reader = read(source)
    assert (reader.colour.matrix, reader.colour.full) == (matrix, full)
    inside = (slice(None), slice(2, -2), slice(2, -2))  # chroma is continued at the border as FFmpeg likes
    shown = np.stack([frame.rgb() for frame in frames])[inside].astype(int)
    error = np.abs(shown - np.stack(pictures)[inside])
    assert error.mean() < 0.7
    assert error.max() <= 4

    after = copy(source, tmp_path / "b.mp4")
    assert after.colour == reader.colour
    again = np.stack([frame.rgb() for frame in read(tmp_path / "b.mp4")[0]])[inside].astype(int)
    assert np.abs((again - shown).mean((0, 1, 2))).max() < 0.5  # no shift of a channel
    assert np.abs(again - shown).mean() < 1.5  # and what crf 17 costs


def test_a_matrix_that_is_not_given_is_bt709_from_720_rows_on() -> None:
    picture = np.full((720, 64, 3), (200, 60, 40), np.uint8)
    for rows, matrix in ((720, 1), (480, 6)):
        y = planes_of(picture[:rows], Colour())[0]
        assert abs(int(y[8, 8]) - int(planes_of(picture[:rows], Colour(matrix=matrix))[0][8, 8])) == 0
    small, large = planes_of(picture[:480], Colour())[0][8, 8], planes_of(picture, Colour())[0][8, 8]
    assert abs(int(small) - int(large)) > 5


@pytest.mark.parametrize(
    ("codec", "pixel_format", "suffix"),
    [
        ("ffv1", "yuv444p10le", ".mkv"),
        ("ffv1", "yuv422p", ".mkv"),
        ("mjpeg", "yuvj420p", ".avi"),
        ("png", "rgb24", ".mov"),
    ],
)
def test_other_pixel_formats_become_420_of_the_same_colours(
    tmp_path: Path, codec: str, pixel_format: str, suffix: str
) -> None:
    pictures = smooth_pictures(2)
    options = {"q": "1", "qmin": "1", "qmax": "1"} if codec == "mjpeg" else {}
    frames, reader = read(
        write_video(tmp_path / f"a{suffix}", pictures, codec=codec, pixel_format=pixel_format, options=options)
    )
    assert reader.colour.full == (codec == "mjpeg")
    shown = np.stack([frame.rgb() for frame in frames])
    assert np.abs(shown.astype(int) - np.stack(pictures))[:, 2:-2, 2:-2].mean() < 1.5


def test_what_is_not_changed_is_what_was_read(tmp_path: Path) -> None:
    """The encoder gets the decoder's own samples: with a lossless one the copy is bit-identical."""
    source = write_video(tmp_path / "a.mp4", smooth_pictures(4))
    copy(source, tmp_path / "b.mkv", Encoding(crf=0))
    for before, after in zip(read(source)[0], read(tmp_path / "b.mkv")[0], strict=True):
        for plane, other in zip(before.planes, after.planes, strict=True):
            np.testing.assert_array_equal(plane, other)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 5), st.integers(0, 4), st.booleans())
def test_new_pixels_touch_nothing_outside_of_their_mask(seed: int, left: int, top: int, full: bool) -> None:
    random = np.random.default_rng(seed)
    colour = Colour(matrix=1, full=full)
    before = Frame(0, 0, 1, planes_of(random.integers(0, 256, (20, 24, 3), dtype=np.uint8), colour), colour)
    left, top = 2 * left, 2 * top
    pixels = random.integers(0, 256, (20 - top, 24 - left, 3), dtype=np.uint8)
    changed = random.random(pixels.shape[:2]) < 0.7
    after = before.with_pixels(pixels, changed, left, top)
    where = np.zeros((20, 24), bool)
    where[top:, left:] = changed
    four = where.reshape(10, 2, 12, 2).all((1, 3))
    for plane, other, mask in zip(before.planes, after.planes, (where, four, four), strict=True):
        np.testing.assert_array_equal(plane[~mask], other[~mask])
    expected = planes_of(pixels, colour, 20)[0]
    np.testing.assert_array_equal(after.luma[top:, left:][changed], expected[changed])


def test_time_stamps_of_a_variable_frame_rate_stay(tmp_path: Path) -> None:
    pts = [0, 40, 70, 71, 400, 1000, 1017, 3000]
    source = write_video(tmp_path / "a.mp4", smooth_pictures(8), pts=pts, time_base=Fraction(1, 1000))
    for suffix in (".mp4", ".mkv", ".mov"):
        target = tmp_path / f"b{suffix}"
        after = copy(source, target)
        times = [frame.pts * after.time_base for frame in read(target)[0]]
        assert times == [Fraction(t, 1000) for t in pts], suffix
    assert abs(float(av.open(str(tmp_path / "b.mp4")).duration) / 1e6 - 3.04) < 0.01  # type: ignore[arg-type]


def test_a_transport_stream_begins_at_0_and_keeps_sound_and_picture_together(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.ts", smooth_pictures(25), audio="aac", options={"threads": "1"})
    lag = packets(source, "audio")[0][0] - min(t for t, _ in packets(source, "video"))
    copy(source, tmp_path / "b.mp4")
    frames, reader = read(tmp_path / "b.mp4")
    assert frames[0].pts * reader.time_base < 0.1
    found = packets(tmp_path / "b.mp4", "audio")[0][0] - float(frames[0].pts * reader.time_base)
    assert abs(found - lag) < 0.002  # an MP4's own clock ticks in milliseconds


TURNS = [(0, False, False), (90, False, False), (180, False, False), (-90, False, False), (0, True, False),
         (90, True, False), (0, False, True), (90, False, True)]  # fmt: skip


@pytest.mark.parametrize("turn", TURNS)
def test_turned_clips_are_read_upright_and_written_so(tmp_path: Path, turn: tuple[float, bool, bool]) -> None:
    stored = smooth_pictures(2)
    angle, hflip, vflip = turn
    upright = np.rot90(stored[0], round(angle / 90))  # counter-clockwise, then mirrored
    upright = upright[:, ::-1] if hflip else upright
    upright = upright[::-1] if vflip else upright
    source = write_video(tmp_path / "a.mp4", stored, turn=turn)
    frames, reader = read(source)
    assert (reader.height, reader.width) == upright.shape[:2]
    assert np.abs(frames[0].rgb().astype(int) - upright).mean() < 1.5
    after = copy(source, tmp_path / "b.mp4")
    assert (after.height, after.width) == upright.shape[:2]
    with av.open(str(tmp_path / "b.mp4")) as file:
        shown = next(file.decode(video=0))
    assert shown.side_data.get("DISPLAYMATRIX") is None
    assert np.abs(shown.to_ndarray(format="rgb24").astype(int) - upright).mean() < 3


@pytest.mark.parametrize("size", [(63, 48), (64, 47), (33, 31)])
def test_odd_sizes_are_continued_to_even_ones(tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    pictures = smooth_pictures(2, width, height)
    frames, reader = read(write_video(tmp_path / "a.mkv", pictures, codec="ffv1", pixel_format="yuv444p", options={}))
    assert (reader.width, reader.height) == (width + width % 2, height + height % 2)
    shown = frames[0].rgb()
    assert np.abs(shown[:height, :width].astype(int) - pictures[0])[2:-2, 2:-2].mean() < 1.5
    np.testing.assert_array_equal(frames[0].luma[:, -1], frames[0].luma[:, width - 1])
    np.testing.assert_array_equal(frames[0].luma[-1], frames[0].luma[height - 1])
    assert copy(tmp_path / "a.mkv", tmp_path / "b.mp4").width == reader.width


@pytest.mark.parametrize(
    ("codec", "source", "target"),
    [("aac", "a.mp4", "b.mp4"), ("aac", "a.mp4", "b.mkv"), ("aac", "a.mkv", "b.mov"), ("libmp3lame", "a.avi", "b.mp4"),
     ("flac", "a.mkv", "b.mkv")],
)  # fmt: skip
def test_sound_is_copied_packet_by_packet(tmp_path: Path, codec: str, source: str, target: str) -> None:
    write_video(tmp_path / source, smooth_pictures(25), audio=codec, options={"threads": "1"}, seconds=1.5)
    copy(tmp_path / source, tmp_path / target)
    before, after = packets(tmp_path / source, "audio"), packets(tmp_path / target, "audio")
    assert [content for _, content in before] == [content for _, content in after]
    lead = packets(tmp_path / source, "video")[0][0] - packets(tmp_path / target, "video")[0][0]
    moved = np.array([s - t for (s, _), (t, _) in zip(before, after, strict=True)])
    assert np.ptp(moved) < 2e-3  # Matroska counts milliseconds,
    assert abs(moved[0] - lead) < 2e-3  # and delays sound and picture alike by the codec's start-up


def test_several_tracks_of_sound_and_none(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as file:
        video = file.add_stream("libx264", rate=25, options=LOSSLESS)
        video.width, video.height = 64, 48  # type: ignore[attr-defined]
        tracks = [file.add_stream("aac", rate=48000) for _ in range(2)]
        for number, picture in enumerate(smooth_pictures(5)):
            frame = av.VideoFrame.from_ndarray(picture)
            frame.pts = number
            file.mux(video.encode(frame))  # type: ignore[attr-defined]
        file.mux(video.encode(None))  # type: ignore[attr-defined]
        for track in tracks:
            write_sound(file, track, 0.2)
    assert copy(tmp_path / "a.mkv", tmp_path / "b.mp4").audio == 2
    assert copy(write_video(tmp_path / "c.mp4", smooth_pictures(2)), tmp_path / "d.mp4").audio == 0


def truncated(path: Path, share: float = 0.6) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def damaged(path: Path, number: int = 12) -> Path:
    with av.open(str(path)) as file:
        packet = [p for p in file.demux(video=0) if p.size][number]
        assert packet.pos is not None
        begin, size = packet.pos + 8, packet.size // 2
    content = bytearray(path.read_bytes())
    content[begin : begin + size] = bytes(byte ^ 0x5A for byte in content[begin : begin + size])
    path.write_bytes(bytes(content))
    return path


def noisy(count: int = 20) -> list[NDArray[np.uint8]]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(count)]


def only_sound(path: Path) -> Path:
    with av.open(str(path), "w") as file:
        write_sound(file, file.add_stream("aac", rate=48000), 0.3)
    return path


def no_frames(path: Path) -> Path:
    with av.open(str(path), "w", options={"movflags": "empty_moov+frag_keyframe"}) as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height = 64, 48  # type: ignore[attr-defined]
        file.start_encoding()
    return path


def two_sizes(path: Path) -> Path:
    parts = []
    for width in (64, 96):
        part = write_video(path.with_name(f"{width}.h264"), smooth_pictures(3, width), container="h264")
        parts.append(part.read_bytes())
    path.write_bytes(b"".join(parts))
    return path


def text(path: Path, content: str = "no video, but a plain text\n") -> Path:
    path.write_text(content)
    return path


def picture(path: Path) -> Path:
    from PIL import Image

    Image.new("RGB", (64, 64), (90, 120, 200)).save(path)
    return path


FAULTS: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "absent": ("a.mp4", "there is no video file .*a.mp4", lambda path: None),
    "folder": ("a.mp4", "there is no video file", lambda path: path.mkdir()),
    "empty file": ("a.mp4", "is no video, or damaged", lambda path: path.write_bytes(b"")),
    "text": ("a.txt", "is no video, or damaged", text),
    "text called mp4": ("a.mp4", "is no video, or damaged", text),
    "picture": ("a.png", "is no video, or damaged", picture),
    "picture called mp4": ("a.mp4", "is no video, or damaged", lambda p: picture(p.with_suffix(".png")).rename(p)),
    "playlist": ("a.m3u8", "is no video", lambda p: text(p, "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nb.ts\n")),
    "list of files": ("a.ffconcat", "is no video", lambda path: text(path, "ffconcat version 1.0\nfile b.mp4\n")),
    "sound": ("a.m4a", "holds no video, only sound", only_sound),
    "no frames": ("a.mp4", "holds no frame", no_frames),
    "truncated, index behind": ("a.mp4", "is no video, or damaged", lambda p: truncated(write_video(p, noisy()))),
    "truncated, index in front": (
        "a.mp4", "is truncated|is damaged",
        lambda path: truncated(write_video(path, noisy(), container_options={"movflags": "faststart"})),
    ),
    "truncated Matroska": ("a.mkv", r"is truncated: .* of 1\.\d s", lambda p: truncated(write_video(p, noisy(40)))),
    "damaged MP4": ("a.mp4", "is damaged", lambda path: damaged(write_video(path, noisy()))),
    "damaged AVI": ("a.avi", "is damaged", lambda p: damaged(write_video(p, noisy(), codec="mpeg4", options={}))),
    "two sizes": ("a.h264", "changes its size", two_sizes),
    "HDR": ("a.mp4", r"is an HDR clip \(HLG\)", lambda p: write_video(p, smooth_pictures(2), matrix=1, transfer=18)),
    "pixels not square": (
        "a.mp4", "pixels of 16:15, not square",
        lambda path: write_video(path, smooth_pictures(2), aspect=Fraction(16, 15)),
    ),
    "turned by 30 degrees": (
        "a.mp4", "no quarter turn", lambda path: write_video(path, smooth_pictures(2), turn=(30, False, False))
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_read_is_refused_in_one_sentence(tmp_path: Path, fault: str) -> None:
    name, message, make = FAULTS[fault]
    write_video(tmp_path / "b.ts", smooth_pictures(3))  # what a list of files would lead to
    write_video(tmp_path / "b.mp4", smooth_pictures(3))
    make(tmp_path / name)
    with pytest.raises(Refusal, match=message) as refused:
        copy(tmp_path / name, tmp_path / "out.mp4")
    assert "\n" not in str(refused.value)
    assert name in str(refused.value)
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


def test_a_gif_is_a_clip(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.gif", smooth_pictures(4), codec="gif", pixel_format="rgb8", options={})
    assert len(read(source)[0]) == 4
    copy(source, tmp_path / "b.mp4")


def test_targets_that_cannot_be_are_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", smooth_pictures(3))
    with pytest.raises(Refusal, match=r"must end in \.mp4, \.m4v, \.mov, \.mkv"):
        copy(source, tmp_path / "b.webm")
    content = source.read_bytes()
    with pytest.raises(Refusal, match="is the source itself"):
        copy(source, tmp_path / "." / "a.mp4")
    with pytest.raises(Refusal, match="cannot be written"):
        copy(source, source / "b.mp4")
    spoken = write_video(tmp_path / "c.wmv", smooth_pictures(3), codec="wmv2", options={}, audio="wmav2")
    with pytest.raises(Refusal, match=r"\.mp4 files cannot hold the sound of .*c\.wmv \(wmav2\); re-encode"):
        copy(spoken, tmp_path / "b.mp4")
    assert source.read_bytes() == content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "c.wmv"]


def test_a_target_is_replaced_whole_or_stays(tmp_path: Path) -> None:
    source, target = write_video(tmp_path / "a.mp4", smooth_pictures(3)), tmp_path / "b.mp4"
    target.write_bytes(b"old")

    def stopped() -> None:
        with ClipReader(source) as reader, ClipWriter.like(reader, target) as writer:
            writer.write(next(iter(reader)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]
    copy(source, target)
    first = target.read_bytes()
    copy(source, target)
    assert target.read_bytes() == first  # and the same once more: no time, no chance in it


def resident() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's account of memory")
def test_memory_does_not_grow_with_the_clip(tmp_path: Path) -> None:
    """500 frames of 320 x 240 are 58 MB."""
    one = smooth_pictures(1, 320, 240)[0]
    source = write_video(
        tmp_path / "a.mp4", (np.roll(one, i, 1) for i in range(500)), audio="aac", seconds=20,
        options={"threads": "1", "preset": "ultrafast"},
    )  # fmt: skip
    levels = []
    tracemalloc.start()
    with ClipReader(source) as reader, ClipWriter.like(reader, tmp_path / "b.mp4", Encoding(40, "ultrafast")) as writer:
        for frame in reader:
            writer.write(frame)
            if frame.number in (150, 499):
                levels.append(resident())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3e6
    assert levels[1] - levels[0] < 12e6
