"""Seconds that StyleGAN3's forward pass takes, ours and the textbook's: ``python -m benchmarks.stylegan3``.

The textbook's: kernels scaled and normalised for each sample and run as one grouped convolution, then the filtered
leaky ReLU by its definition: zeros inserted, padding, one filter for every channel (a grouped convolution), the
nonlinearity, a filter again, decimation. ``dense`` takes every filter as a two-dimensional one, ``separable`` those
that are separable as two passes; which is faster depends on the size, so both run. All have the same weights and give
the same picture, which is checked first. They run in turn, and the median counts.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import conv2d, leaky_relu, pad

from benchmarks.stylegan2 import measure, per_sample_conv
from fse.generators.stylegan3 import StyleGAN3, StyleGAN3Size, SynthesisLayer, ToRGB


def main() -> None:
    """Print a row a configuration, size, batch and formulation."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stylegan3", description=__doc__)
    parser.add_argument("--configurations", nargs="+", choices=["T", "R"], default=["T", "R"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[256])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument(
        "--channel-base", type=int, default=16384, help="of T, whose most channels are a 32nd; R doubles"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--without-dense", action="store_true", help="the dense filters take minutes")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(
        f"{arguments.threads} threads, torch {torch.__version__}, median of {arguments.repeats}, float32, no gradient, "
        f"channel base {arguments.channel_base}"
    )
    for configuration in arguments.configurations:
        for resolution in arguments.sizes:
            torch.manual_seed(0)
            generator = StyleGAN3(size_for(configuration, resolution, arguments.channel_base)).eval()
            runs: dict[str, Callable[[Tensor], Tensor]] = {
                "textbook, dense": partial(textbook, generator, dense=True),
                "textbook, separable": partial(textbook, generator, dense=False),
                "ours": generator.synthesize,
            }
            if arguments.without_dense:
                del runs["textbook, dense"]
            for batch in arguments.batches:
                codes = generator.map(torch.randn(batch, generator.size.z_dim))
                seconds = measure(runs, codes, arguments.repeats)
                for name, value in seconds.items():
                    print(
                        f"{configuration} {resolution:5} px, batch {batch}: {name:20} {value:7.2f} s "
                        f"{value / seconds['ours']:6.2f} times ours",
                        flush=True,
                    )


def size_for(configuration: str, resolution: int, channel_base: int) -> StyleGAN3Size:
    """Configuration R has twice the channels of T, 1x1 convolutions and radial filters."""
    if configuration == "T":
        return StyleGAN3Size(resolution, channel_base, channel_base // 32)
    return StyleGAN3Size(resolution, 2 * channel_base, channel_base // 16, conv_kernel=1, use_radial_filters=True)


def textbook(generator: StyleGAN3, codes: Tensor, dense: bool) -> Tensor:
    """The picture of ``generator.synthesize(codes)``."""
    synthesis = generator.synthesis
    x: Tensor = synthesis.get_submodule("input")(codes[:, 0])
    x = x.contiguous()
    for i in range(generator.size.num_layers + 1):
        layer = synthesis.get_submodule(generator.size.layer_name(i))
        assert isinstance(layer, SynthesisLayer | ToRGB)
        style = layer.affine(codes[:, i + 1])
        final = isinstance(layer, ToRGB)
        x = pad(x, (layer.weight.shape[-1] // 2,) * 4)  # the rest of k - 1 is the convolution's own
        x = per_sample_conv(x, layer.weight[None], style, demodulate=not final) * layer.magnitude_ema.rsqrt()
        x = x + layer.bias[:, None, None]
        if isinstance(layer, SynthesisLayer):
            x = filter_channels(insert_zeros(x, layer.up, layer.padding), layer.up_filter * layer.up, dense)
            x = (leaky_relu(x, 0.2) * 2**0.5).clamp(-256, 256)
            x = filter_channels(x, layer.down_filter, dense)[:, :, :: layer.down, :: layer.down]
    return x.clamp(-256, 256) * generator.size.output_scale


def insert_zeros(x: Tensor, up: int, padding: tuple[int, int, int, int]) -> Tensor:
    """(B, C, H, W) -> (B, C, H * up, W * up), padded."""
    height, width = x.shape[2:]
    x = pad(x[:, :, :, None, :, None], (0, up - 1, 0, 0, 0, up - 1))
    return pad(x.reshape(*x.shape[:2], height * up, width * up), padding)


def filter_channels(x: Tensor, kernel: Tensor, dense: bool) -> Tensor:
    """Convolve each channel with (k, k), or with (k,) along both axes: in one pass if ``dense``, else in two."""
    if kernel.ndim == 2:
        kernels = [kernel]
    else:
        kernels = [torch.outer(kernel, kernel)] if dense else [kernel[:, None], kernel[None]]
    channels = x.shape[1]
    for one in kernels:
        x = conv2d(x, one.flip((0, 1)).expand(channels, 1, -1, -1), groups=channels)
    return x


if __name__ == "__main__":
    main()
