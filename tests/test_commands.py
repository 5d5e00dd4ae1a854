"""``fse`` as a user calls it: what is written, what is refused in which words, and what is never touched."""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from commands.command_line import main, parser
from commands.home import Home
from commands.strip import GAP
from fse import Inverter
from fse.alignment import FaceAligner, align_every_face
from fse.api import LANDMARKS_MODEL
from fse.checkpoints.safetensors_file import read_tensors
from fse.directions import read_directions
from fse.pictures import open_picture
from fse.refusal import Refusal
from fse.registry import method_names
from tests.conftest import ROOT

COMMANDS = ["invert", "edit", "mix", "video", "methods", "directions"]


@pytest.fixture(scope="module")
def faces(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two aligned portraits, 256 px: astronaut.png, t1_0.png."""
    folder = tmp_path_factory.mktemp("faces")
    photographs = [assets / "photographs/astronaut.png", assets / "photographs/t1.jpg"]
    aligned = align_every_face(photographs, FaceAligner(assets / LANDMARKS_MODEL))
    for name in ("astronaut", "t1_0"):
        aligned[name].save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def inverter(assets: Path, weights: Path) -> Inverter:
    """What the command should load."""
    return Inverter.load(assets, weights, "fse", directions=ROOT / "directions/generator.safetensors")


@dataclass(frozen=True)
class Said:
    """What a call printed, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The last line on standard error."""
        return self.err.strip().splitlines()[-1] if self.err.strip() else ""


Call = Callable[..., Said]


@pytest.fixture
def fse(capfd: pytest.CaptureFixture[str]) -> Call:
    """Calls ``fse`` in this process."""

    def call(*arguments: object) -> Said:
        code = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as ended:
            code = int(ended.code or 0)
        captured = capfd.readouterr()
        return Said(code, captured.out, captured.err)

    return call


def same(path: Path, image: Image.Image) -> bool:
    """Up to the last bit of eight, which the size of a batch may turn."""
    return int(np.abs(np.asarray(open_picture(path), int) - np.asarray(image, int)).max()) <= 1


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def outside(*arguments: object, cwd: Path) -> Said:
    """Call the installed command from another folder."""
    command = [str(Path(sys.executable).with_name("fse")), *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    return Said(done.returncode, done.stdout, done.stderr)


class TestHelp:
    @pytest.mark.parametrize("command", COMMANDS)
    def test_of_every_command(self, fse: Call, command: str) -> None:
        said = fse(command, "--help")
        assert said.code == 0
        assert f"usage: fse {command}" in said.out
        assert command == "methods" or f"examples:\n  fse {command}" in said.out

    def test_examples_can_be_typed(self) -> None:
        """Every line of an example is understood."""
        texts = [parser().format_help()]
        for action in parser()._subparsers._group_actions:  # type: ignore[union-attr]
            assert isinstance(action, argparse._SubParsersAction)
            texts += [each.format_help() for each in action.choices.values()]
        lines = [line for text in texts for line in re.findall(r"^  fse (.*?)(?:   .*)?$", text, re.MULTILINE)]
        assert len(lines) > 12
        for line in lines:
            assert parser().parse_args(line.split()).command in COMMANDS

    def test_is_there_at_once(self) -> None:
        """No slow library is loaded for it."""
        code = (
            "import sys; from commands.command_line import main\n"
            "try: main(['--help'])\n"
            "finally: assert not {'torch', 'numpy', 'PIL', 'rich', 'dlib', 'cv2', 'av'} & set(sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "fse COMMAND --help" in done.stdout


class TestInvert:
    def test_folder_with_broken_files(self, fse: Call, faces: Path, inverter: Inverter, tmp_path: Path) -> None:
        given = tmp_path / "in"
        shutil.copytree(faces, given)
        (given / "broken.png").write_text("no picture")
        Image.new("RGB", (40, 30)).save(given / "oblong.webp")
        Image.new("RGB", (64, 64)).save(given / "astronaut.jpg")  # of the name of another
        said = fse("invert", given, tmp_path / "out", "--batch", "2")
        assert said.code == 2
        assert said.error == "error: 3 of 5 files could not be used, as said above"
        assert re.search(r"left out: .*broken\.png is not a PNG, JPEG or WebP picture", said.err)
        assert re.search(r"left out: .*oblong\.webp is 40 x 30 pixels, not square", said.err)
        assert re.search(r"left out: the result .*astronaut\.png would replace that of another picture", said.err)
        assert said.out == f"written: 2 pictures in {tmp_path / 'out'}\n"
        assert names(tmp_path / "out") == ["astronaut.png", "t1_0.png"]
        assert same(tmp_path / "out/t1_0.png", inverter.invert(faces / "t1_0.png").pictures[0])

    @pytest.mark.parametrize("target", ["a.png", "a.JPG", "a.webp"])
    def test_suffix_chooses_the_format(self, fse: Call, faces: Path, tmp_path: Path, target: str) -> None:
        said = fse("invert", faces / "t1_0.png", tmp_path / "new" / target, "--method", "psp")
        assert (said.code, said.out) == (0, f"written: {tmp_path / 'new' / target}\n")
        with Image.open(tmp_path / "new" / target) as file:
            assert file.format == {"png": "PNG", "webp": "WEBP"}.get(target[2:], "JPEG")
            assert file.size == (256, 256)

    def test_aligned_faces(self, fse: Call, assets: Path, tmp_path: Path) -> None:
        group = tmp_path / "group.png"
        open_picture(assets / "photographs/t1.jpg").crop((0, 100, 640, 500)).save(group)
        said = fse("invert", group, tmp_path / "out", "--every-face", "--method", "psp", "--format", "webp")
        assert said.code == 0
        assert names(tmp_path / "out") == [f"group_{number}.webp" for number in range(3)]
        said = fse("invert", group, tmp_path / "one.png", "--align", "--method", "psp")
        assert (said.code, said.out) == (0, f"written: {tmp_path / 'one.png'}\n")

    def test_limit_and_what_is_there_already(self, fse: Call, faces: Path, tmp_path: Path) -> None:
        """So a run that was stopped goes on."""
        assert fse("invert", faces, tmp_path, "--limit", "1", "--method", "psp").code == 0
        assert names(tmp_path) == ["astronaut.png"]
        before = (tmp_path / "astronaut.png").stat()
        said = fse("invert", faces, tmp_path, "--method", "psp")
        assert said.code == 2
        assert re.search(r"astronaut\.png exists: say --overwrite or --skip-existing", said.error)
        said = fse("invert", faces, tmp_path, "--method", "psp", "--skip-existing")
        assert (said.code, said.out) == (0, f"written: {tmp_path / 't1_0.png'}; 1 were there already\n")
        assert (tmp_path / "astronaut.png").stat() == before
        assert fse("invert", faces, tmp_path, "--method", "psp", "--overwrite").code == 0
        assert (tmp_path / "astronaut.png").stat() != before

    @pytest.mark.parametrize("link", ["itself", "symlink", "hardlink"])
    def test_inputs_are_never_written_over(self, fse: Call, faces: Path, tmp_path: Path, link: str) -> None:
        given, out = tmp_path / "a.png", tmp_path / "out" / "a.png"
        out.parent.mkdir()
        shutil.copy(faces / "t1_0.png", given)
        content = given.read_bytes()
        if link == "symlink":
            out.symlink_to(given)
        elif link == "hardlink":
            out.hardlink_to(given)
        said = fse("invert", given, given.parent if link == "itself" else out, "--overwrite")
        assert said.code == 2
        assert re.fullmatch(r"error: the result .*a\.png would replace an input: choose .*", said.error)
        assert given.read_bytes() == content


class TestEdit:
    def test_is_the_method_s(self, fse: Call, faces: Path, inverter: Inverter, tmp_path: Path) -> None:
        said = fse("edit", faces, tmp_path, "--direction", "smile", "--strength", "-1.5")
        assert said.code == 0
        expected = inverter.invert(faces).edit("smile", -1.5)
        for name, image in zip(("astronaut", "t1_0"), expected, strict=True):
            assert same(tmp_path / f"{name}.png", image)

    @pytest.mark.parametrize("method", ["fse_w", "psp", "e4e", "hfgi"])
    def test_with_every_shipped_method(self, fse: Call, faces: Path, tmp_path: Path, method: str) -> None:
        out = tmp_path / "a.png"
        said = fse("edit", faces / "t1_0.png", out, "--direction", "smile", "--strength", "0", "2", "--method", method)
        assert (said.code, said.out) == (0, f"written: 2 pictures in {tmp_path}\n")
        still, moved = (open_picture(tmp_path / f"a_smile_{strength}.png") for strength in (0, 2))
        assert np.abs(np.asarray(still, int) - np.asarray(moved, int)).mean() > 0.5

    def test_along_the_method_s_own_directions(
        self, fse: Call, faces: Path, inverter: Inverter, tmp_path: Path
    ) -> None:
        own = ROOT / "directions/fse.safetensors"
        for number, whose in enumerate(("fse_w", own)):
            out = tmp_path / f"{number}.png"
            assert fse("edit", faces / "t1_0.png", out, "--direction", "yaw", "--directions", whose).code == 0
            assert same(out, inverter.invert(faces / "t1_0.png").edit(read_directions(own)["yaw"], 2)[0])

    def test_several_directions_and_a_strip(self, fse: Call, faces: Path, inverter: Inverter, tmp_path: Path) -> None:
        moves = ("--direction", "smile,yaw", "--strength", "-2", "2")
        assert fse("edit", faces / "t1_0.png", tmp_path / "out", *moves).code == 0
        variants = [(name, strength) for name in ("smile", "yaw") for strength in (-2, 2)]
        assert names(tmp_path / "out") == sorted(f"t1_0_{name}_{strength}.png" for name, strength in variants)
        assert fse("edit", faces / "t1_0.png", tmp_path / "strip.png", *moves, "--strip").code == 0
        strip = open_picture(tmp_path / "strip.png")
        assert strip.size == (3 * 256 + 2 * GAP, 2 * 256 + GAP)
        single = strip.crop((256 + GAP, 256 + GAP, 512 + GAP, 512 + GAP))
        assert same(tmp_path / "out/t1_0_yaw_-2.png", single)
        found = inverter.invert(faces / "t1_0.png")
        assert same(tmp_path / "out/t1_0_smile_2.png", found.edit("smile", 2)[0])
        found.save(tmp_path / "inversion.png")
        assert same(tmp_path / "inversion.png", strip.crop((0, 0, 256, 256)))

    def test_of_saved_latents(self, fse: Call, faces: Path, tmp_path: Path) -> None:
        move = ("--direction", "smile", "--strength", "2")
        one, many = tmp_path / "all.safetensors", tmp_path / "latents"
        assert fse("edit", faces, tmp_path / "direct", *move, "--save-latents", one).code == 0
        assert fse("invert", faces, tmp_path / "inverted", "--save-latents", many).code == 0
        assert names(many) == ["astronaut.safetensors", "t1_0.safetensors"]
        for source, out in ((one, "from_one"), (many, "from_many")):
            assert fse("edit", source, tmp_path / out, *move).code == 0
            for name in ("astronaut.png", "t1_0.png"):
                assert same(tmp_path / "direct" / name, open_picture(tmp_path / out / name))
        assert fse("invert", one, tmp_path / "again").code == 0
        assert same(tmp_path / "inverted/t1_0.png", open_picture(tmp_path / "again/t1_0.png"))
        tensors, header = read_tensors(one)
        assert tensors["codes"].shape == (2, 12, 512)
        assert header["method"] == "fse"

        said = fse("invert", one, tmp_path / "x.png")
        assert re.fullmatch(r"error: several pictures do not go into the one file .*x\.png: name a folder", said.error)
        said = fse("edit", one, tmp_path / "x", *move, "--method", "psp")
        assert re.fullmatch(r"error: .*all.safetensors holds latents of the method 'fse', not of 'psp'; .*", said.error)
        one.write_bytes(one.read_bytes()[:1000])
        said = fse("edit", one, tmp_path / "x", *move)
        assert re.fullmatch(
            r"error: .*all.safetensors is no safetensors file .*; invert the pictures again .*", said.error
        )
        assert said.code == 2


class TestMix:
    def test_pair(self, fse: Call, faces: Path, inverter: Inverter, tmp_path: Path) -> None:
        a, b = faces / "astronaut.png", faces / "t1_0.png"
        assert fse("mix", a, b, tmp_path / "mixed.png").code == 0
        found = inverter.invert([a, b])
        assert same(tmp_path / "mixed.png", found[0].mix(found[1])[0])
        assert fse("mix", a, b, tmp_path / "strip.png", "--strip").code == 0
        assert open_picture(tmp_path / "strip.png").size == (4 * 256 + 3 * GAP, 256)

    def test_every_pair_of_folders_and_both_ways(self, fse: Call, faces: Path, tmp_path: Path) -> None:
        said = fse("mix", faces, faces / "t1_0.png", tmp_path / "out", "--method", "psp", "--both")
        assert said.code == 2  # t1_0 with itself gives one file, twice
        assert {"astronaut_t1_0.png", "t1_0_astronaut.png"} <= set(names(tmp_path / "out"))


def clip(path: Path, pictures: Sequence[Image.Image]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(24))
        stream.width, stream.height, stream.pix_fmt = *pictures[0].size, "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    return path


def frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


class TestVideo:
    def test_edit(self, fse: Call, assets: Path, tmp_path: Path) -> None:
        face = open_picture(assets / "photographs/astronaut.png").crop((60, 0, 380, 320))
        source = clip(tmp_path / "in.mp4", [face.rotate(angle) for angle in (0, 1)])
        said = fse("video", source, tmp_path / "out.mp4", "--direction", "smile", "--strength", "2")
        assert said.code == 0, said.err
        assert said.out.startswith(f"written: {tmp_path / 'out.mp4'}\n  2 of 2 frames edited, 320 x 320 pixels at 24")
        assert frames(tmp_path / "out.mp4") == 2
        said = fse("video", source, tmp_path / "out.mp4")
        assert re.fullmatch(r"error: .*out\.mp4 exists: say --overwrite, or choose another file", said.error)
        said = fse("video", source, source, "--overwrite")
        assert said.code == 2
        assert frames(source) == 2

    def test_refusals(self, fse: Call, tmp_path: Path) -> None:
        grey = clip(tmp_path / "grey.mp4", [Image.new("RGB", (320, 240), "grey")] * 3)
        (tmp_path / "text.mp4").write_text("no clip")
        for arguments, sentence in (
            ((tmp_path / "none.mp4", tmp_path / "out.mp4"), r"there is no clip .*none\.mp4; check the name"),
            ((grey, tmp_path / "out.mp4"), r"no face was found in any of the 3 frames of .*grey\.mp4; .*"),
            ((tmp_path / "text.mp4", tmp_path / "out.mp4"), r".*text\.mp4.*"),
            ((grey, tmp_path / "out.avi"), r".*out\.avi.*\.mp4.*"),
            (
                (grey, tmp_path / "out.mp4", "--strength", "2"),
                r"--strength is of a direction: name one with --direction",
            ),
            ((grey, tmp_path / "out.mp4", "--direction", "grin"), r"there is no direction 'grin'; known are .*smile.*"),
        ):
            said = fse("video", *arguments)
            assert said.code == 2
            assert re.fullmatch(f"error: {sentence}", said.error), said.error
            assert not (tmp_path / "out.mp4").exists()


REFUSED = {
    "invert none.png out.png": r"there is no picture and no folder none\.png; check the name",
    "invert empty out": r"the folder empty holds no picture \(\.png, \.jpg, \.jpeg, \.webp\)",
    "invert grey.png out.png --align": r"no face was found in grey\.png; use a frontal face of at least 40 pixels",
    "invert oblong.png out.png": r"oblong\.png is 40 x 30 pixels, not square; align the faces or crop it first",
    "invert grey.png out.gif": r"out\.gif is of no format that pictures are written in: choose one of \.png, .*",
    "invert grey.png out.png --format webp": r"out\.png is no \.webp file: leave --format out, or name a folder",
    "invert grey.png oblong.png/out.png": r"the folder oblong\.png cannot be made \(File exists\): choose .*",
    "invert grey.png out.png --every-face": r"--every-face may find several, and out\.png is one file: name a folder",
    "invert grey.png out.png --method fes": r"there is no method 'fes'; installed are .*fse, .*fse_w.*",
    "invert grey.png out.png --device abacus": r"the device abacus cannot be used .*",
    "invert grey.png out.png --home empty": r"the trained weights .* are not in empty: name the folder .* --home .*",
    "invert grey.png out.png --save-latents x.bin": r"latents are written to a \.safetensors file or to a folder, .*",
    "edit grey.png out.png --direction grin": r"there is no direction 'grin'; known are .*smile.*",
    "edit grey.png out.png --direction smile --strength 1e30": r"with the strength 1e\+30 no picture comes out; .*",
    "edit grey.png out.png --direction smile --directions fes": r"there are no directions of 'fes'; name generator, .*",
    "edit grey.png out.png --direction smile --home weightless": r"there are no directions weightless/.*",
    "edit none.safetensors out.png --direction smile": r"there is no picture and no folder none\.safetensors; .*",
    "mix grey.png none.png out.png": r"there is no picture and no folder none\.png; check the name",
    "mix grey.png grey.png out.png --both": r"with --both there are several results, and out\.png is one file: .*",
    "directions fse --home weightless": r"there are no directions weightless/.*",
}

MISTYPED = {
    "": "the following arguments are required: COMMAND",
    "inwert": "invalid choice: 'inwert'",
    "invert grey.png": "the following arguments are required: OUT",
    "invert grey.png out.png --limit 0": "argument --limit: '0' is no whole number of at least 1",
    "invert grey.png out.png --format gif": "invalid choice: 'gif'",
    "invert grey.png out --overwrite --skip-existing": "not allowed with argument --overwrite",
    "video in.mp4 out.mp4 --crf 99": "argument --crf: '99' is no whole number between 0 and 51",
    "video in.mp4 out.mp4 --smoothing -1": "argument --smoothing: -1 is below 0",
    "edit grey.png out.png": "the following arguments are required: --direction",
    "edit grey.png out.png --direction smile --strength x": "'x' is no number (files go before the option)",
    "edit --direction smile --strength 2 grey.png out.png": "'grey.png' is no number (files go before the option)",
    "edit grey.png out.png --direction smile --strength nan": "'nan' is no number",
}


class TestRefusals:
    @pytest.fixture
    def place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A folder with what the lines name, and the working directory of the call."""
        Image.new("RGB", (64, 64), "grey").save(tmp_path / "grey.png")
        Image.new("RGB", (40, 30)).save(tmp_path / "oblong.png")
        (tmp_path / "empty").mkdir()
        (tmp_path / "weightless").mkdir()
        (tmp_path / "weightless/weights").symlink_to(ROOT / "weights")
        (tmp_path / "weightless/data").symlink_to(ROOT / "data")
        monkeypatch.chdir(tmp_path)
        return tmp_path

    @pytest.mark.parametrize("line", REFUSED)
    def test_one_sentence_and_exit_code_2(self, fse: Call, place: Path, assets: Path, line: str) -> None:
        said = fse(*line.split())
        assert said.code == 2
        assert re.fullmatch(f"error: {REFUSED[line]}", said.error), said.error
        assert said.err.count("error") == 1
        assert said.out == ""
        assert not list(place.glob("out*"))

    @pytest.mark.parametrize("line", MISTYPED)
    def test_usage(self, fse: Call, place: Path, line: str) -> None:
        said = fse(*line.split())
        assert said.code == 2
        assert MISTYPED[line] in said.error

    def test_full_disk(self, fse: Call, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Image.Image, "save", full)
        said = fse("invert", faces, tmp_path / "out", "--method", "psp")
        assert said.code == 2
        assert re.fullmatch(r"error: the picture .* cannot be written \(.*No space left on device\); .*", said.error)
        assert names(tmp_path / "out") == []


class TestOutsideTheRepository:
    """As a user has it: the installed command, called from another folder."""

    def test_edit(self, faces: Path, assets: Path, tmp_path: Path) -> None:
        said = outside("edit", faces / "t1_0.png", "smiling.webp", "--direction", "smile", cwd=tmp_path)
        assert (said.code, said.out) == (0, "written: smiling.webp\n"), said.err
        assert open_picture(tmp_path / "smiling.webp").size == (256, 256)

    def test_stopped_it_leaves_whole_files_and_no_traceback(self, faces: Path, tmp_path: Path) -> None:
        given, out = tmp_path / "in", tmp_path / "out"
        given.mkdir()
        for number in range(200):
            (given / f"{number:03}.png").symlink_to(faces / "t1_0.png")
        command = [str(Path(sys.executable).with_name("fse")), "invert", str(given), str(out), "--batch", "1"]
        inherited = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
            signal.signal(signal.SIGINT, inherited)
            while running.poll() is None and not (out / "000.png").exists():
                time.sleep(0.02)
            running.send_signal(signal.SIGINT)
            _, err = running.communicate()
        assert running.returncode == 130
        assert err.strip().endswith("interrupted")
        assert "Traceback" not in err
        assert 0 < len(names(out)) < 200
        for path in out.iterdir():
            assert open_picture(path).size == (256, 256)


class TestHome:
    def test_comes_from_the_environment(self, fse: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FSE_HOME", str(tmp_path))
        said = fse("directions")
        assert said.code == 2
        assert said.error.startswith("error: the trained weights (weights/picture_head.safetensors) are not in")

    def test_assets_are_obtained_once_and_only_those_that_are_wanted(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Those taken here come out of installed packages, so that nothing is downloaded."""
        home = Home(ROOT, tmp_path / "assets")
        home.obtain(["photographs"])
        said = capsys.readouterr()
        assert said.out == ""
        assert "are downloaded from the package index to" in said.err
        assert names(tmp_path / "assets") == ["photographs"]
        home.obtain(["photographs"])
        assert capsys.readouterr() == ("", "")
        (tmp_path / "file").touch()
        with pytest.raises(Refusal, match=r"the folder .*file/assets cannot be made .*; name another with --assets"):
            Home(ROOT, tmp_path / "file/assets").obtain(["photographs"])

    def test_every_method_has_directions(self, assets: Path) -> None:
        home = Home(ROOT, assets)
        for method in method_names():
            assert "smile" in read_directions(home.directions(method))


class TestLists:
    def test_methods(self, fse: Call, assets: Path) -> None:
        said = fse("methods")
        assert said.code == 0
        for name in method_names():
            assert re.search(rf"^{name} ", said.out, re.MULTILINE)
        assert re.search(r"^fse +FSE, G\(F, w\) +ready *$", said.out, re.MULTILINE)

    @pytest.mark.parametrize("whose", ["generator", "fse"])
    def test_directions(self, fse: Call, whose: str) -> None:
        said = fse("directions", whose)
        assert said.code == 0
        known = read_directions(ROOT / f"directions/{whose}.safetensors")
        for direction in known.values():
            assert re.search(rf"^{direction.name} ", said.out, re.MULTILINE)
        accuracy = 100 * known["smile"].provenance["held_out_accuracy"]
        assert re.search(rf"^smile .* {accuracy:.1f} %", said.out, re.MULTILINE)


def test_numbers_do_not_depend_on_the_call(fse: Call, faces: Path, tmp_path: Path) -> None:
    for out in ("a.png", "b.png"):
        assert fse("edit", faces / "t1_0.png", tmp_path / out, "--direction", "yaw").code == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
