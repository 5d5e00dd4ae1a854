"""Renders pushed off the generator's manifold: what stands for real pictures where no photographs can be had.

A photograph differs from a render in ways that a render never does: its layers do not agree on one w (so
codes are mixed by layer before rendering, :func:`fse.latents.mix_codes`), it is framed a little differently,
has a background and objects that the generator never drew, another light, camera and compression. An encoder
that only sees renders learns to trust that a w exists; on these pictures none does, and the feature tensor
must carry what codes cannot. Each kind of change is applied with its own probability, so that some pictures
get several and few get none.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, conv2d, grid_sample, interpolate, pad
from torchvision.io import decode_jpeg, encode_jpeg
from torchvision.transforms.functional import gaussian_blur

Random = np.random.Generator


def push_off_manifold(pictures: Tensor, random: Random) -> Tensor:
    """pictures (B, 3, R, R) in [-1, 1], R >= 16 -> the same, changed; B >= 2, as pictures lend each other texture.

    Order: background, occluders, framing, light and colour, blur, noise, JPEG. Everything is drawn from
    ``random``, so the same generator state gives the same pictures on the same machine.
    """
    pictures = torch.stack([_background(p, pictures, random) if random.random() < 0.35 else p for p in pictures])
    pictures = torch.stack([_occlude(p, pictures, random) if random.random() < 0.5 else p for p in pictures])
    pictures = _frame(pictures, random)
    pictures = torch.stack([_light(p, random) if random.random() < 0.8 else p for p in pictures])
    return torch.stack([_camera(p, random) for p in pictures]).clamp(-1, 1)


def _uniform(random: Random, low: float, high: float) -> float:
    return float(random.uniform(low, high))


def _texture(pictures: Tensor, random: Random) -> Tensor:
    """A picture-sized texture (3, R, R): a zoomed, turned piece of a picture, a gradient, or stripes."""
    side = pictures.shape[-1]
    kind = random.random()
    if kind < 0.55:
        picture = pictures[random.integers(len(pictures))]
        zoom = math.exp(_uniform(random, math.log(0.15), math.log(0.8)))
        turn = _uniform(random, -math.pi, math.pi)
        centre = random.uniform(-0.6, 0.6, 2)
        rows = [
            [zoom * math.cos(turn), -zoom * math.sin(turn), centre[0]],
            [zoom * math.sin(turn), zoom * math.cos(turn), centre[1]],
        ]
        texture = _sample(picture[None], torch.tensor([rows], dtype=torch.float32))[0]
        sigma = _uniform(random, 0.1, 6.0)
        return gaussian_blur(texture, 2 * math.ceil(2 * sigma) + 1, sigma) if sigma > 1 else texture
    colours = torch.from_numpy(random.uniform(-1, 1, (2, 3, 1, 1))).float()
    ramp = torch.linspace(-1, 1, side)
    turn = _uniform(random, 0, math.pi)
    across = ramp[None, :] * math.cos(turn) + ramp[:, None] * math.sin(turn)
    blend = across * 0.4 + 0.5 if kind < 0.85 else torch.sigmoid(6 * torch.sin(across * _uniform(random, 4, 40)))
    return torch.lerp(colours[0], colours[1], blend.clamp(0, 1))


def _sample(pictures: Tensor, theta: Tensor) -> Tensor:
    grid = affine_grid(theta.to(pictures), list(pictures.shape), align_corners=False)
    return grid_sample(pictures, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _plane(side: int) -> tuple[Tensor, Tensor]:
    ramp = torch.linspace(-1, 1, side)
    return ramp[None, :], ramp[:, None]


def _background(picture: Tensor, pictures: Tensor, random: Random) -> Tensor:
    """Keep a soft oval around the face, put a texture behind it."""
    x, y = _plane(picture.shape[-1])
    width, height = _uniform(random, 0.55, 0.8), _uniform(random, 0.75, 1.0)
    radius = ((x / width) ** 2 + ((y - 0.1) / height).clamp(max=0.0) ** 2).sqrt()  # open downwards: neck, shoulders
    face = torch.sigmoid((1 - radius) * _uniform(random, 6, 25))
    return torch.lerp(_texture(pictures, random), picture, face)


def _occlude(picture: Tensor, pictures: Tensor, random: Random) -> Tensor:
    """One to three textured ovals, boxes or bands anywhere on the picture."""
    x, y = _plane(picture.shape[-1])
    for _ in range(random.integers(1, 4)):
        centre_x, centre_y = random.uniform(-0.9, 0.9, 2)
        turn = _uniform(random, 0, math.pi)
        along = (x - centre_x) * math.cos(turn) + (y - centre_y) * math.sin(turn)
        across = (y - centre_y) * math.cos(turn) - (x - centre_x) * math.sin(turn)
        length, breadth = _uniform(random, 0.1, 0.5), _uniform(random, 0.04, 0.25)
        shape = random.integers(3)
        if shape == 0:
            inside = 1 - ((along / length) ** 2 + (across / breadth) ** 2).sqrt()
        elif shape == 1:
            inside = torch.minimum(1 - along.abs() / length, 1 - across.abs() / breadth)
        else:
            inside = 1 - across.abs() / (breadth * 0.5) + 0 * along
        mask = torch.sigmoid(inside * _uniform(random, 8, 40)) * _uniform(random, 0.7, 1.0)
        picture = torch.lerp(picture, _texture(pictures, random), mask)
    return picture


def _frame(pictures: Tensor, random: Random) -> Tensor:
    """Rotation to 12 degrees, scale 0.8 to 1.2, aspect to 5 %, shift to 6 % of the side, mirror; reflected borders."""
    count = len(pictures)
    turn = np.deg2rad(random.normal(0, 4, count).clip(-12, 12))
    scale = np.exp(random.normal(0, 0.08, count).clip(np.log(0.8), np.log(1.2)))
    aspect = np.exp(random.uniform(-0.05, 0.05, count))
    mirror = random.choice([-1.0, 1.0], count)
    shift = random.normal(0, 0.05, (count, 2)).clip(-0.12, 0.12)
    theta = np.empty((count, 2, 3), np.float32)
    theta[:, 0] = np.stack([scale * aspect * np.cos(turn) * mirror, -scale * np.sin(turn), shift[:, 0]], 1)
    theta[:, 1] = np.stack([scale * np.sin(turn) * mirror, scale / aspect * np.cos(turn), shift[:, 1]], 1)
    return _sample(pictures, torch.from_numpy(theta))


def _light(picture: Tensor, random: Random) -> Tensor:
    """Gamma, contrast, brightness, white balance, saturation, and a light that falls off to one side."""
    x, y = _plane(picture.shape[-1])
    p = (picture.clamp(-1, 1) + 1) / 2
    p = p ** math.exp(random.normal(0, 0.25))
    grey = p.mean(0, keepdim=True)
    p = grey + (p - grey) * (0.0 if random.random() < 0.06 else math.exp(random.normal(0, 0.3)))
    p = p * torch.from_numpy(np.exp(random.normal(0, 0.1, (3, 1, 1)))).float()
    p = (p - 0.45) * math.exp(random.normal(0, 0.2)) + 0.45 + random.normal(0, 0.07)
    if random.random() < 0.3:
        turn = _uniform(random, -math.pi, math.pi)
        p = p * (1 + _uniform(random, 0.1, 0.5) * (x * math.cos(turn) + y * math.sin(turn)))
    return p.float() * 2 - 1


def _camera(picture: Tensor, random: Random) -> Tensor:
    """Defocus or sharpening, a lower resolution, sensor noise, JPEG at quality 40 to 95."""
    side = picture.shape[-1]
    if random.random() < 0.15:
        sigma = _uniform(random, 0.4, 1.6)
        picture = gaussian_blur(picture, 2 * math.ceil(2 * sigma) + 1, sigma)
    elif random.random() < 0.3:
        amount = _uniform(random, 0.1, 0.7)  # photographs are crisper than the generator's pictures
        picture = picture + amount * (picture - gaussian_blur(picture, 5, 1.0))
    if random.random() < 0.1:
        small = round(side * _uniform(random, 0.3, 0.8))
        reduced = interpolate(picture[None], size=(small, small), mode="bilinear", antialias=True)
        picture = interpolate(reduced, size=(side, side), mode="bilinear")[0]
    if random.random() < 0.3:
        noise = torch.from_numpy(random.standard_normal(picture.shape, dtype=np.float32)).to(picture)
        if random.random() < 0.5:  # noise of a reduced picture is correlated between neighbours
            noise = conv2d(pad(noise[None], (1, 1, 1, 1), "reflect"), noise.new_full((3, 1, 3, 3), 1 / 9), groups=3)[0]
        picture = picture + _uniform(random, 0.0, 0.08) * noise
    if random.random() < 0.3:
        quality = int(random.integers(40, 96))
        bytes_ = ((picture.clamp(-1, 1) + 1) * 127.5).round().to("cpu", torch.uint8)
        picture = decode_jpeg(encode_jpeg(bytes_, quality)).to(picture) / 127.5 - 1
    return picture
