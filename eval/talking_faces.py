"""Clips of talking faces that nobody filmed: rendered along smooth paths of codes, in front of a still background.

They stand for RAVDESS where no data set can be had. Each clip is one identity. Its head turns, its mouth and eyes move
along measured directions (:mod:`fse.directions`; 1 is a standard deviation of the codes), and it moves in the plane of
the picture: shift, tilt, size. The picture is larger than the face, and its background does not move.

The generator draws surroundings that move with the head. So identities are those of many candidates whose surroundings
are plainest, and the render fades into a background that continues them: its colours, and blurred panels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fse.directions import Direction
from fse.generators.style_generator import StyleGenerator
from fse.latents import sample_z, truncate

MOVES = ("yaw", "smile", "mouth_open", "eye_open")
"""Directions along which a face moves."""

ROWS = 7
"""Codes that move, those up to 32 px. Later ones give colours and the background, which are to stay."""

WIDTH, HEIGHT = 384, 320
"""Of a frame, in pixels."""

RENDER = 256
"""Side of a render in a frame, before the head's own scale; also the resolution that it is made at."""

BELOW = 14
"""Pixels of a frame below the render of a head at rest, whose lower edge is continued there."""

TRUNCATION, CANDIDATES = 0.75, 4
"""Of the identities' codes, and how many are looked at for one that is taken."""

EXTREME, TURNED = 1.8, 2.4
"""Yaw, in standard deviations: from which a pose counts as extreme, and at which identities are judged as well."""

Picture = NDArray[np.float32]
Random = np.random.Generator


@dataclass(frozen=True)
class Pose:
    """Of one frame.

    Attributes
    ----------
    moves : mapping
        Strength by direction, from the face at rest.
    x, y : float
        Shift to the right and down, as a share of the frame's width.
    turn : float
        Degrees clockwise.
    scale : float
    """

    moves: Mapping[str, float]
    x: float
    y: float
    turn: float
    scale: float

    @property
    def extreme(self) -> bool:
        return abs(self.moves["yaw"]) >= EXTREME


def talking_path(frames: int, rate: float, random: Random, extreme: bool) -> list[Pose]:
    """A pose a frame. Slow waves turn and shift the head, syllables at 3 to 5 Hz open the mouth, one blink.

    ``extreme``: from the middle on the head turns away, as far as 2.1 to 2.5 standard deviations in the last frame.
    """
    seconds = np.arange(frames) / rate

    def wave(low: float, high: float, slow: float = 0.4, fast: float = 0.9) -> NDArray[np.float64]:
        amplitude, hertz, phase = random.uniform(low, high), random.uniform(slow, fast), random.uniform(0, 2 * math.pi)
        return amplitude * np.sin(2 * math.pi * hertz * seconds + phase)

    yaw = wave(0.4, 1.0)
    if extreme:
        rise = np.clip((np.arange(frames) / max(frames - 1, 1) - 0.4) / 0.6, 0, 1)
        rise = rise * rise * (3 - 2 * rise)
        yaw = yaw * (1 - rise) + rise * random.uniform(2.1, 2.5) * random.choice((-1, 1))
    syllables = 0.5 + 0.5 * np.sin(2 * math.pi * random.uniform(3, 5) * seconds + random.uniform(0, 2 * math.pi))
    mouth = -0.7 + random.uniform(1.8, 2.6) * syllables * (0.75 + wave(0.15, 0.25, 1.0, 2.0))
    blink = np.exp(-0.5 * ((seconds - random.uniform(0.1, 0.9) * seconds[-1]) / 0.05) ** 2)
    moves = {
        "yaw": yaw,
        "smile": random.uniform(-0.9, 0.5) + wave(0.2, 0.5),
        "mouth_open": mouth,
        "eye_open": wave(0.1, 0.3) - 2.0 * blink,
    }
    x, y, turn, scale = wave(0.01, 0.035), wave(0.004, 0.012), wave(1.5, 5.0), 1 + wave(0.01, 0.035)
    return [
        Pose({name: float(values[i]) for name, values in moves.items()}, *(float(v[i]) for v in (x, y, turn, scale)))
        for i in range(frames)
    ]


def moved(codes: Tensor, directions: Mapping[str, Direction], moves: Mapping[str, float]) -> Tensor:
    """codes (N, 512) moved by ``moves`` in their first :data:`ROWS` rows."""
    codes = codes.clone()
    for name, strength in moves.items():
        codes[:ROWS] += strength * directions[name].vector[:ROWS].to(codes)
    return codes


def at_rest(codes: Tensor, mean_code: Tensor, directions: Mapping[str, Direction]) -> Tensor:
    """codes (B, N, 512) moved to the mean code's position along every one of :data:`MOVES`: frontal, eyes open."""
    vectors = torch.stack([directions[name].vector[:ROWS].flatten() for name in MOVES]).double()
    offsets = (codes - mean_code)[:, :ROWS].flatten(1).double().cpu()
    places = torch.linalg.solve(vectors @ vectors.T, vectors @ offsets.T)  # (moves, B)
    rest = codes.clone()
    rest[:, :ROWS] -= (places.T @ vectors).reshape(len(codes), ROWS, -1).to(codes)
    return rest


@dataclass(frozen=True)
class Speaker:
    """An identity.

    Attributes
    ----------
    codes : Tensor
        (N, 512), of the face at rest.
    picture : array
        (R, R, 3), its render in [0, 255].
    spread : float
        Standard deviation of the colours around the head, at rest and turned to either side, the largest of the three:
        low where nothing stands behind the head.
    """

    codes: Tensor
    picture: Picture
    spread: float


@torch.no_grad()
def choose_speakers(
    generator: StyleGenerator,
    directions: Mapping[str, Direction],
    seed: int,
    count: int,
    progress: Callable[[Sequence[Tensor]], Iterable[Tensor]] = iter,
) -> list[Speaker]:
    """Of four times as many random identities, the ``count`` of the plainest surroundings, in the order of drawing."""
    device = generator.mean_code.device
    codes = generator.map(sample_z(seed, CANDIDATES * count).to(device))
    codes = at_rest(truncate(codes, generator.mean_code, TRUNCATION), generator.mean_code, directions)
    candidates = [_speaker(generator, directions, code) for code in progress(list(codes))]
    limit = sorted(each.spread for each in candidates)[count - 1]
    return [each for each in candidates if each.spread <= limit][:count]


def _speaker(generator: StyleGenerator, directions: Mapping[str, Direction], code: Tensor) -> Speaker:
    turned = [moved(code, directions, {"yaw": yaw}) for yaw in (0.0, -TURNED, TURNED)]
    rest, *sides = _render(generator, torch.stack(turned))
    return Speaker(code, rest, max(_spread(rest), *map(_spread_beside, sides)))


@torch.no_grad()
def _render(generator: StyleGenerator, codes: Tensor, batch: int = 4) -> Iterator[Picture]:
    """Pictures (256, 256, 3) in [0, 255] of codes (B, N, 512)."""
    for part in codes.split(batch):
        pictures = (generator.synthesize(part).float().clamp(-1, 1) + 1) * 127.5
        yield from pictures.permute(0, 2, 3, 1).cpu().numpy()


def _surroundings(side: int) -> NDArray[np.bool_]:
    """Where a render at rest shows no head: a strip along the upper edge, and the sides down to the shoulders."""
    shown = np.zeros((side, side), bool)
    shown[: side // 26] = True
    shown[: _shoulders(side), : side // 13] = shown[: _shoulders(side), -(side // 13) :] = True
    return shown


def _shoulders(side: int) -> int:
    return side * 6 // 10


def _spread(picture: Picture) -> float:
    return _deviation(picture[_surroundings(len(picture))])


def _spread_beside(picture: Picture) -> float:
    """Of the strip that a head which has turned, and moved to one side with that, leaves free."""
    strip = picture[: _shoulders(len(picture))]
    width = len(picture) // 6
    return min(_deviation(part.reshape(-1, 3)) for part in (strip[:, :width], strip[:, -width:]))


def _deviation(colours: Picture) -> float:
    """Of colours (M, 3), the root of the mean variance."""
    return float(np.sqrt(colours.var(0).mean()))


def background(rest: Picture, random: Random) -> Picture:
    """(HEIGHT, WIDTH, 3): the surroundings of ``rest``, smooth, with some blurred panels a little lighter or darker."""
    left, top = (WIDTH - RENDER) // 2, HEIGHT - BELOW - RENDER
    weight = np.zeros((HEIGHT, WIDTH, 1), np.float32)
    known = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    weight[top : top + RENDER, left : left + RENDER, 0] = _surroundings(RENDER)
    known[top : top + RENDER, left : left + RENDER] = cv2.resize(rest, (RENDER, RENDER))
    sigma = WIDTH / 6
    spread = cv2.GaussianBlur(weight, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)[..., None]
    smooth = cv2.GaussianBlur(known * weight, (0, 0), sigma, borderType=cv2.BORDER_REFLECT) / (spread + 1e-6)

    panels = np.zeros((HEIGHT, WIDTH), np.float32)
    for _ in range(9):
        x, y = random.uniform(-40, WIDTH), random.uniform(-60, HEIGHT)
        right, bottom = x + random.uniform(20, 110), y + random.uniform(40, 260)
        panels[max(int(y), 0) : max(int(bottom), 0), max(int(x), 0) : max(int(right), 0)] += random.uniform(-20, 20)
    panels = np.asarray(cv2.GaussianBlur(panels, (0, 0), 4), np.float32)
    tint = random.uniform(0.7, 1.0, 3).astype(np.float32)
    shown: Picture = np.clip(smooth + panels[..., None] * tint, 0, 255).astype(np.float32)
    return shown


class Scene:
    """A head before a still background (HEIGHT, WIDTH, 3)."""

    MARGIN = 110
    """Pixels by which a render is continued to every side: up to where a moving head would show its edge."""

    def __init__(self, behind: Picture) -> None:
        self.behind = behind
        self.mask = self._mask()

    def _mask(self) -> Picture:
        """(S, S) of the continued render: the head's column, round above, that fades within the render's edges; below
        it the whole width, for the shoulders."""
        side = RENDER + 2 * self.MARGIN
        y, x = np.mgrid[:side, :side].astype(np.float32)
        across, down = np.abs(x - (side - 1) / 2), y - self.MARGIN
        middle, half = 0.5 * RENDER, 0.44 * RENDER
        above = np.clip((middle - down) / middle, 0, 1)
        column = half * np.cbrt(1 - above**3)
        shoulders = self.MARGIN / (1 + np.exp((0.8 * RENDER - down) / 9))
        inside = np.clip((column + shoulders + 8 - across) / 24, 0, 1)
        mask: Picture = (inside * np.clip((down - 1) / 16, 0, 1)).astype(np.float32)
        return mask

    def _continued(self, render: Picture) -> Picture:
        """The render with its edge colours drawn out, blurred there, to every side."""
        margin = self.MARGIN
        wide = np.pad(render, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
        inside = np.zeros(wide.shape[:2], np.float32)
        inside[margin + 5 : -margin - 5, margin + 5 : -margin - 5] = 1
        inside = np.asarray(cv2.GaussianBlur(inside, (0, 0), 3), np.float32)
        soft = cv2.GaussianBlur(wide, (0, 0), 5)
        mixed: Picture = (soft + inside[..., None] * (wide - soft)).astype(np.float32)
        return mixed

    def frame(self, render: Picture, pose: Pose) -> NDArray[np.uint8]:
        """(HEIGHT, WIDTH, 3), RGB: ``render`` (R, R, 3), shifted, and turned and scaled about the neck."""
        angle, centre = math.radians(pose.turn), self.MARGIN + (RENDER - 1) / 2
        turn = pose.scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        neck = np.array([centre, self.MARGIN + RENDER])
        there = np.array([(WIDTH - 1) / 2 + pose.x * WIDTH, HEIGHT - BELOW + pose.y * WIDTH])
        matrix = np.column_stack((turn, there - turn @ neck))
        if len(render) != RENDER:
            render = cv2.resize(render, (RENDER, RENDER), interpolation=cv2.INTER_CUBIC)  # type: ignore[assignment]
        size = WIDTH, HEIGHT
        head = cv2.warpAffine(
            self._continued(render), matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        weight = cv2.warpAffine(self.mask, matrix, size, flags=cv2.INTER_LINEAR)[..., None]
        return np.rint(np.clip(self.behind + weight * (head - self.behind), 0, 255)).astype(np.uint8)


def talking_frames(
    generator: StyleGenerator,
    speaker: Speaker,
    directions: Mapping[str, Direction],
    path: Sequence[Pose],
    random: Random,
) -> Iterator[NDArray[np.uint8]]:
    """The frames (HEIGHT, WIDTH, 3), RGB, of ``speaker`` along ``path``."""
    scene = Scene(background(speaker.picture, random))
    codes = torch.stack([moved(speaker.codes, directions, pose.moves) for pose in path])
    for render, pose in zip(_render(generator, codes), path, strict=True):
        yield scene.frame(render, pose)
