"""Stand-ins of the official generators: small, and with pictures of an ordinary mean and contrast."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from fse.generators.stylegan1 import StyleGAN1, StyleGAN1Size
from fse.generators.stylegan2 import StyleGAN2, StyleGAN2Size
from fse.generators.stylegan3 import StyleGAN3, StyleGAN3Size
from fse.latents import sample_z
from pipelines.rehearsal.filling import fill_generator
from pipelines.rehearsal.nvidia_pickle_writer import EasyDict, grow, snapshot, write_nvidia_pickle
from pipelines.rehearsal.pytorch_file_writer import write_pytorch

Generator = TypeVar("Generator", StyleGAN1, StyleGAN2, StyleGAN3)

FACES = StyleGAN2Size(128, (32, 32, 32, 32, 16, 16), mapping_depth=2)
"""For 1024 px: 128 px, 12 codes."""

SQUARES = StyleGAN2Size(64, (32, 32, 32, 16, 16), mapping_depth=2)
"""For the 512 px of cars, cats and dogs: 64 px, 10 codes."""

CONTRAST = 0.4
"""Standard deviation of the pictures, of which one in a hundred values then exceeds [-1, 1]."""

SOURCE = '''class Generator:
    """A stand-in carries its source as the official files do; nothing may run it."""
    raise AssertionError("the source inside of a file was run")
'''
_BUFFERS = ("w_avg", "noise_const", "_filter", "magnitude_ema", "transform", "freqs", "phases")


def stylegan2(key: str, size: StyleGAN2Size) -> StyleGAN2:
    """Its mean code is that of a thousand."""
    network = StyleGAN2(size)
    fill_generator(network, key)
    network.set_mean_code(_mean_w(network))
    return _calibrated(network, [layer.conv.weight for layer in (network.to_rgb1, *network.to_rgbs)])


def stylegan1(key: str) -> StyleGAN1:
    """For in-domain inversion's 256 px: 64 px, because its hundred steps take the longest of all."""
    network = StyleGAN1(StyleGAN1Size(64, 1024, 16, mapping_depth=2))
    fill_generator(network, key)
    network.truncation.w_avg.copy_(_mean_w(network))
    network.size = StyleGAN1Size(64, 1024, 16, 2, tanh=False)
    network = _calibrated(network, [network.get_parameter("synthesis.output4.conv.weight")])
    network.size = StyleGAN1Size(64, 1024, 16, 2)
    return network


def stylegan3(key: str, *, rotation: bool) -> StyleGAN3:
    """At 64 px; configuration R if ``rotation``, with twice the channels as officially, else T."""
    times = 2 if rotation else 1
    size = StyleGAN3Size(
        64, 1024 * times, 16 * times, conv_kernel=1 if rotation else 3, use_radial_filters=rotation, mapping_depth=2
    )
    network = StyleGAN3(size)
    fill_generator(network, key)
    network.mapping.w_avg.copy_(_mean_w(network))
    return _calibrated(network, [network.get_parameter(f"synthesis.{size.layer_name(size.num_layers)}.weight")])


@torch.no_grad()
def _mean_w(network: nn.Module) -> Tensor:
    mean: Tensor = network.map(sample_z(0, 1000)).mean((0, 1))  # type: ignore[operator]
    return mean


@torch.no_grad()
def _calibrated(network: Generator, to_rgb: list[Tensor]) -> Generator:
    """Frozen; the pictures, which are linear in the weights ``to_rgb``, have a deviation of :data:`CONTRAST`."""
    deviation = network.synthesize(network.map(sample_z(1, 8))).std()
    for weight in to_rgb:
        weight *= CONTRAST / deviation
    return network.eval().requires_grad_(False)


def write_rosinality(network: StyleGAN2, path: Path, *, modern: bool) -> None:
    """As rosinality's converter writes it: ``g_ema`` and ``latent_avg`` (512,)."""
    content = {"g_ema": network.state_dict(), "latent_avg": network.mean_code[0].clone()}
    write_pytorch(content, path, modern=modern)


def write_ada(network: StyleGAN2, path: Path) -> None:
    """As NVIDIA's StyleGAN2-ADA pickles it, with the fused names of its own layers."""
    size = network.size
    options = {
        "z_dim": size.code_dim, "c_dim": 0, "w_dim": size.code_dim, "img_channels": 3,
        "img_resolution": size.resolution, "mapping_kwargs": EasyDict(num_layers=size.mapping_depth),
        "synthesis_kwargs": EasyDict(
            channel_base=size.resolution * size.channels[-1], channel_max=max(size.channels), num_fp16_res=4,
            conv_clamp=size.clamp,
        ),
    }  # fmt: skip
    _write_pickle(ada_state(network), options, path)


def write_stylegan3(network: StyleGAN3, path: Path) -> None:
    """As NVIDIA's StyleGAN3 pickles it."""
    size = network.size
    options: dict[str, Any] = {
        "z_dim": size.z_dim, "c_dim": 0, "w_dim": size.code_dim, "img_resolution": size.resolution, "img_channels": 3,
        "mapping_kwargs": EasyDict(num_layers=size.mapping_depth), "channel_base": size.channel_base,
        "channel_max": size.channel_max, "magnitude_ema_beta": 0.5 ** (32 / 20e3),
    }  # fmt: skip
    if size.use_radial_filters:
        options |= {"conv_kernel": 1, "use_radial_filters": True}
    _write_pickle(network.state_dict(), options, path)


def _write_pickle(state: Mapping[str, Tensor], options: Mapping[str, Any], path: Path) -> None:
    parameters = {name for name in state if not name.endswith(_BUFFERS)}
    write_nvidia_pickle(path, snapshot(grow(state, parameters, options)), SOURCE)


def ada_state(network: StyleGAN2) -> dict[str, Tensor]:
    """The network's state by StyleGAN2-ADA's names: the inverse of :mod:`fse.generators.stylegan2_ada`."""
    own = network.state_dict()
    taps = own["to_rgbs.0.upsample.kernel"] / 4  # NVIDIA's operator brings the gain of enlarging itself
    state = {"mapping.w_avg": network.mean_code[0].clone()}
    for layer in range(network.size.mapping_depth):
        for part in ("weight", "bias"):
            state[f"mapping.fc{layer}.{part}"] = own[f"style.{layer + 1}.{part}"]
    for level in range(len(network.size.channels)):
        block = f"synthesis.b{4 << level}."
        state[f"{block}resample_filter"] = taps
        if not level:
            state[f"{block}const"] = own["input.input"][0]
        for number in (2 * level - 1, 2 * level)[level == 0 :]:  # of the convolution, counted from 0
            ours, theirs = f"convs.{number - 1}." if number else "conv1.", f"{block}conv{(number + 1) % 2}."
            state |= {
                f"{theirs}weight": own[f"{ours}conv.weight"][0],
                f"{theirs}noise_strength": own[f"{ours}noise.weight"][0],
                f"{theirs}bias": own[f"{ours}activate.bias"],
                f"{theirs}resample_filter": taps,
                f"{theirs}noise_const": own[f"noises.noise_{number}"][0, 0],
            }
            state |= {f"{theirs}affine.{part}": own[f"{ours}conv.modulation.{part}"] for part in ("weight", "bias")}
        ours, theirs = f"to_rgbs.{level - 1}." if level else "to_rgb1.", f"{block}torgb."
        state |= {f"{theirs}weight": own[f"{ours}conv.weight"][0], f"{theirs}bias": own[f"{ours}bias"].flatten()}
        state |= {f"{theirs}affine.{part}": own[f"{ours}conv.modulation.{part}"] for part in ("weight", "bias")}
    return state
