"""RAVDESS's official archives, on tiny clips under the official names."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from eval import ravdess
from eval.clips import read_clips
from eval.ravdess import Trial, draw, prepare, read_archives, read_list, write_list
from fse.refusal import Refusal
from fse.video.settings import ClipSettings
from tests.test_video_editing import DiscFinder
from tests.test_video_tracking import scene
from tests.video_files import write_video


def official_names(actor: int, channel: int = 1) -> Iterator[str]:
    """Both video modalities of every trial: 120 of speech, 88 of song (protocol.md, section 7)."""
    emotions = range(1, 9) if channel == 1 else range(1, 7)
    for emotion in emotions:
        for intensity in (1, 2) if emotion > 1 else (1,):
            for statement in (1, 2):
                for repetition in (1, 2):
                    for modality in (1, 2):
                        yield str(Trial(modality, channel, emotion, intensity, statement, repetition, actor).name)


def archive(folder: Path, name: str, members: dict[str, bytes]) -> Path:
    path = folder / name
    with zipfile.ZipFile(path, "w") as file:
        for member, content in members.items():
            file.writestr(member, content)
    return path


def speech(folder: Path, actor: int, content: bytes = b"") -> Path:
    members = {f"Actor_{actor:02}/{name}.mp4": content for name in official_names(actor)}
    return archive(folder, f"Video_Speech_Actor_{actor:02}.zip", members)


def test_names_are_the_data_sets(tmp_path: Path) -> None:
    assert len(list(official_names(5))) == 120
    assert len(list(official_names(5, 2))) == 88
    for name in official_names(23):
        trial = Trial.named(name)
        assert trial is not None
        assert trial.name == name
        assert trial.actor == 23
    for wrong in ("01-01-01-02-01-01-01", "01-01-09-01-01-01-01", "01-01-03-01-01-01-25", "00-01-03-01-01-01-01",
                  "1-1-3-1-1-1-1", "01-01-03-01-01-01", "../01-01-03-01-01-01-01", ""):  # fmt: skip
        assert Trial.named(wrong) is None, wrong


def test_120_of_all_actors_by_a_seed(tmp_path: Path) -> None:
    for actor in range(1, 25):
        speech(tmp_path, actor)
    found = read_archives(tmp_path)
    assert len(found) == 1440  # 60 trials an actor: the picture-only files show the same
    drawn = draw(found)
    assert len({each.trial for each in drawn}) == 120
    assert set(Counter(each.trial.actor for each in drawn).values()) == {5}
    assert [each.trial.name for each in drawn] == [each.trial.name for each in draw(reversed(found))]
    assert {each.trial for each in draw(found, seed=1)} != {each.trial for each in drawn}
    assert {each.trial for each in draw(found, 100)} < {each.trial for each in drawn}  # fewer are the first of more
    # Written down once: a change of the draw would change what Table 2 is measured on.
    names = "\n".join(each.trial.name for each in drawn)
    assert hashlib.sha256(names.encode()).hexdigest().startswith("d9f92fb79290b4cf")

    write_list(tmp_path / "list.txt", drawn, len(found), 0)
    assert (tmp_path / "list.txt").read_text().startswith("# RAVDESS: 120 of 1440 recordings")
    assert read_list(tmp_path / "list.txt", found) == drawn
    with pytest.raises(Refusal, match="2000 clips cannot be drawn from 1440"):
        draw(found, 2000)


def test_uneven_actors_are_drawn_as_evenly_as_can_be(tmp_path: Path) -> None:
    speech(tmp_path, 1)
    names = list(official_names(18))[:6]
    archive(tmp_path, "Video_Speech_Actor_18.zip", {f"{name}.mp4": b"" for name in names})  # no folder in it
    counts = Counter(each.trial.actor for each in draw(read_archives(tmp_path), 20))
    assert counts == {1: 17, 18: 3}


BAD = {
    "not a zip": ({}, "cannot be read|neither a folder nor a zip"),
    "out of it": ({"../01-01-03-01-01-01-01.mp4": b""}, "leads out of it"),
    "absolute": ({"/etc/01-01-03-01-01-01-01.mp4": b""}, "leads out of it"),
    "another name": ({"Actor_01/holiday.mp4": b""}, "'holiday.mp4', no name of RAVDESS"),
    "another actor": ({"Actor_01/01-01-03-01-01-01-02.mp4": b""}, "of another actor or channel"),
    "another channel": ({"Actor_01/01-02-03-01-01-01-01.mp4": b""}, "of another actor or channel"),
    "twice": ({"01-01-03-01-01-01-01.mp4": b"", "Actor_01/01-01-03-01-01-01-01.mp4": b""}, "twice"),
}


@pytest.mark.parametrize("fault", BAD)
def test_archives_that_are_not_the_official_ones_are_refused(tmp_path: Path, fault: str) -> None:
    members, message = BAD[fault]
    path = archive(tmp_path, "Video_Speech_Actor_01.zip", members)
    if not members:
        path.write_bytes(b"no zip")
    with pytest.raises(Refusal, match=message):
        read_archives(tmp_path)


def test_no_archives_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="holds none of RAVDESS's archives"):
        read_archives(tmp_path)
    with pytest.raises(Refusal, match="there is no folder"):
        read_archives(tmp_path / "absent")


@pytest.mark.parametrize(
    ("text", "message"),
    [("01-01-03-01-01-01-09\n", "which the archives do not hold"), ("../../etc/passwd\n", "no name of RAVDESS"),
     ("# nothing\n", "lists nothing"), ("01-01-03-01-01-01-01\n" * 2, "a name twice")],
)  # fmt: skip
def test_lists_that_name_something_else_are_refused(tmp_path: Path, text: str, message: str) -> None:
    speech(tmp_path, 1)
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(Refusal, match=message):
        read_list(tmp_path / "list.txt", read_archives(tmp_path))
    with pytest.raises(Refusal, match="cannot be read"):
        read_list(tmp_path / "absent.txt", [])


def test_frames_of_the_drawn_clips_and_what_failed(tmp_path: Path) -> None:
    """Read in place, aligned, in the form that Table 2 reads; a run that was stopped goes on."""
    faces = write_video(tmp_path / "faces.mp4", [scene([(60 + i, 60, 12)]) for i in range(6)], audio="aac")
    walls = write_video(tmp_path / "walls.mp4", [scene([])] * 3)
    names = [name for name in official_names(3) if name.startswith("01")][:4]
    contents = [faces.read_bytes(), walls.read_bytes(), b"no video", faces.read_bytes()]
    members = {f"Actor_03/{name}.mp4": content for name, content in zip(names, contents, strict=True)}
    archive(tmp_path, "Video_Speech_Actor_03.zip", members | {"Actor_03/readme.txt": b"", "__MACOSX/x.mp4": b""})
    drawn = draw(read_archives(tmp_path), 4)
    out, settings = tmp_path / "out", ClipSettings(resolution=32)
    failed = prepare(drawn, out, DiscFinder(), settings, frames=5)
    assert list(failed) == names[1:3]
    assert failed[names[1]] == "no face was found in it"
    assert "Video_Speech_Actor_03.zip" in failed[names[2]]
    clips = read_clips(out)
    assert [clip.name for clip in clips] == [names[0], names[3]]
    assert [len(clip.frames) for clip in clips] == [5, 5]
    assert [clip.rate for clip in clips] == [25.0, 25.0]
    assert sorted(path.name for path in (out / "frames").iterdir()) == [
        f"{name}_{i:03}.png" for name in (names[0], names[3]) for i in range(5)
    ]

    record = json.loads((out / "clips.json").read_text())
    del record["clips"][names[3]]
    (out / "clips.json").write_text(json.dumps(record))
    times = {path: path.stat().st_mtime_ns for path in (out / "frames").glob(f"{names[0]}*")}
    prepare(drawn, out, DiscFinder(), settings, frames=5)
    assert len(read_clips(out)) == 2
    assert times == {path: path.stat().st_mtime_ns for path in (out / "frames").glob(f"{names[0]}*")}
    prepare(drawn, out, DiscFinder(), settings, frames=3)
    assert [len(clip.frames) for clip in read_clips(out)] == [3, 3]


def test_the_command(tmp_path: Path, assets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    speech(tmp_path, 7, write_video(tmp_path / "a.mp4", [scene([])] * 2).read_bytes())
    ravdess.main([str(tmp_path), "--out", str(tmp_path / "out"), "--count", "3", "--assets", str(assets)])
    said = capsys.readouterr().out
    assert said.startswith("3 of 60 recordings, of 1 actors\nfailed: ")
    assert said.count("no face was found in it") == 3
    assert len((tmp_path / "out/list.txt").read_text().splitlines()) == 4
    for wrong in (["--count", "0"], ["--count", "61"]):
        with pytest.raises(SystemExit) as stopped:
            ravdess.main([str(tmp_path), "--out", str(tmp_path / "other"), *wrong])
        assert stopped.value.code == 2
