"""Seconds that StyleGAN2's forward pass takes, ours and the textbook's: ``python -m benchmarks.stylegan2``.

The textbook's is the formulation of the paper's section 2.2 as the public implementations have it without custom
operators: kernels scaled and normalised for each sample, run as one grouped convolution; resampling by inserting
zeros, padding and a dense 4x4 convolution of each channel as a picture of its own. Both have the same weights and
give the same picture, which is checked first. They run in turn, and the median counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, leaky_relu, pad

from fse.generators.stylegan2 import Resample, StyledConv, StyleGAN2, StyleGAN2Size, ToRGB


def main() -> None:
    """Print a row a size, batch and formulation."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stylegan2", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--bf16", action="store_true", help="ours under bf16 autocast too")
    parser.add_argument("--compile", action="store_true", help="ours compiled too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(
        f"{arguments.threads} threads, torch {torch.__version__}, median of {arguments.repeats}, float32, no gradient"
    )
    for size in arguments.sizes:
        torch.manual_seed(0)
        generator = StyleGAN2(StyleGAN2Size(size)).eval()
        for parameter in generator.parameters():
            if parameter.shape == (1,):
                parameter.data.fill_(0.2)  # strength of the noise
        runs: dict[str, Callable[[Tensor], Tensor]] = {
            "textbook": partial(textbook, generator),
            "ours": generator.synthesize,
        }
        if arguments.bf16:
            runs["ours, bf16"] = torch.autocast("cpu", torch.bfloat16)(generator.synthesize)
        if arguments.compile:
            runs["ours, compiled"] = torch.compile(generator.synthesize)
        for batch in arguments.batches:
            seconds = measure(runs, generator.map(torch.randn(batch, generator.code_dim)), arguments.repeats)
            for name, value in seconds.items():
                print(
                    f"{size:5} px, batch {batch}: {name:15} {value:7.3f} s {seconds['textbook'] / value:5.2f}x",
                    flush=True,
                )


@torch.no_grad()
def measure(runs: dict[str, Callable[[Tensor], Tensor]], codes: Tensor, repeats: int) -> dict[str, float]:
    """Median seconds of each run, taken in turn after one round that checks their pictures against the first's."""
    expected = next(iter(runs.values()))(codes)
    for name, run in runs.items():
        error = float((run(codes) - expected).square().mean().sqrt() / expected.std())
        if error > (0.05 if "bf16" in name else 1e-5):
            raise SystemExit(f"{name} gives another picture: it deviates by {error:.1e} standard deviations")
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            started = time.perf_counter()
            run(codes)
            seconds[name].append(time.perf_counter() - started)
    return {name: median(values) for name, values in seconds.items()}


def textbook(generator: StyleGAN2, codes: Tensor) -> Tensor:
    """The picture of ``generator.synthesize(codes)``."""
    x, picture = generator.input.input.expand(len(codes), -1, -1, -1), None
    for k, (conv, noise) in enumerate(
        zip((generator.conv1, *generator.convs), generator.noises.buffers(), strict=True)
    ):
        x = styled_conv(cast(StyledConv, conv), x, codes[:, k], noise)
        if k % 2 == 0:
            to_rgb = cast(ToRGB, generator.to_rgbs[k // 2 - 1] if k else generator.to_rgb1)
            rgb = per_sample_conv(x, to_rgb.conv.weight, to_rgb.conv.modulation(codes[:, k + 1]), demodulate=False)
            rgb = rgb + to_rgb.bias
            picture = (
                rgb if picture is None else rgb + resample(picture, cast(Resample, to_rgb.upsample).kernel, 2, 2, 1)
            )
    assert picture is not None
    return picture


def styled_conv(layer: StyledConv, x: Tensor, code: Tensor, noise: Tensor) -> Tensor:
    """The whole layer: convolution, blur, noise, bias, activation."""
    x = per_sample_conv(x, layer.conv.weight, layer.conv.modulation(code), up=layer.conv.blur is not None)
    if layer.conv.blur is not None:
        x = resample(x, layer.conv.blur.kernel, 1, 1, 1)
    x = x + layer.noise.weight * noise
    return leaky_relu(x + layer.activate.bias[:, None, None], 0.2) * 2**0.5


def per_sample_conv(x: Tensor, weight: Tensor, style: Tensor, demodulate: bool = True, up: bool = False) -> Tensor:
    """weight (1, O, I, k, k), style (B, I): B kernels, and the batch as B groups of channels of one picture."""
    batch, c_in, height, width = x.shape
    _, c_out, _, side, _ = weight.shape
    kernels = weight * (c_in * side**2) ** -0.5 * style[:, None, :, None, None]
    if demodulate:
        kernels = kernels * (kernels.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    x = x.reshape(1, batch * c_in, height, width)
    if up:
        flat = kernels.transpose(1, 2).reshape(batch * c_in, c_out, side, side)
        x = conv_transpose2d(x, flat, stride=2, groups=batch)
    else:
        x = conv2d(x, kernels.reshape(batch * c_out, c_in, side, side), padding=side // 2, groups=batch)
    return x.reshape(batch, c_out, *x.shape[2:])


def resample(x: Tensor, kernel: Tensor, up: int, before: int, after: int) -> Tensor:
    """Insert zeros, pad, convolve."""
    batch, channels, height, width = x.shape
    x = pad(x.reshape(-1, height, 1, width, 1), (0, up - 1, 0, 0, 0, up - 1)).reshape(-1, 1, height * up, width * up)
    x = conv2d(pad(x, (before, after, before, after)), kernel.flip((0, 1))[None, None])
    return x.reshape(batch, channels, *x.shape[2:])


if __name__ == "__main__":
    main()
