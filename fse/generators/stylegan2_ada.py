"""NVIDIA's stylegan2-ada-pytorch files as :class:`~fse.generators.stylegan2.StyleGAN2`: one network, other names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fse.generators.stylegan2 import StyleGAN2, StyleGAN2Size
from fse.refusal import Refusal

SUPPORTED: dict[str, Any] = {
    "class_name": "Generator",
    "c_dim": 0,
    "img_channels": 3,
    "mapping_kwargs.layer_features": None,
    "mapping_kwargs.activation": "lrelu",
    "mapping_kwargs.lr_multiplier": 0.01,
    "synthesis_kwargs.architecture": "skip",
    "synthesis_kwargs.use_noise": True,
    "synthesis_kwargs.activation": "lrelu",
}
"""Constructor arguments of the official network that change what it computes -> the value that is built here."""

CLAMP = "synthesis_kwargs.conv_clamp"
OTHERS = {
    CLAMP,
    # The tensors show these.
    *("z_dim", "w_dim", "img_resolution", "mapping_kwargs.num_layers"),
    *("synthesis_kwargs.channel_base", "synthesis_kwargs.channel_max", "synthesis_kwargs.resample_filter"),
    # These have no effect: on class labels, which there are none of; on training; on the precision, which is the
    # caller's choice here (autocast).
    *("mapping_kwargs.embed_features", "mapping_kwargs.w_avg_beta", "synthesis_kwargs.num_fp16_res"),
    "synthesis_kwargs.fused_modconv_default",
}

LAYER = re.compile(r"synthesis\.b(\d{1,4})\.(?:(conv0|conv1|torgb)\.)?([a-z_.]+)")
STYLED_CONV = {
    "weight": "conv.weight",
    "affine.weight": "conv.modulation.weight",
    "affine.bias": "conv.modulation.bias",
    "bias": "activate.bias",
    "noise_strength": "noise.weight",
}
TO_RGB = {key: name for key, name in STYLED_CONV.items() if key != "noise_strength"} | {"bias": "bias"}


def stylegan2_from_ada(
    tensors: Mapping[str, Tensor], options: Mapping[str, Any]
) -> tuple[StyleGAN2Size, dict[str, Tensor]]:
    """Size and state of the StyleGAN2 that a file's ``G_ema`` is.

    Parameters
    ----------
    tensors : mapping
        State of ``G_ema``: ``synthesis.b4.const``, ..., ``mapping.w_avg``.
    options : mapping
        Its constructor's keyword arguments: ``c_dim``, ``mapping_kwargs``, ``synthesis_kwargs``, ...; what is absent
        has its official default.

    Returns
    -------
    size : StyleGAN2Size
        The size to build.
    state : dict
        All parameters by the names of :class:`~fse.generators.stylegan2.StyleGAN2`, and ``latent_avg`` (512,), the mean
        code, as files in that layout call it.

    Raises
    ------
    Refusal
        When an argument or a tensor is not of a network that can be built here: nothing is left out in silence.
    """
    # NVIDIA's stylegan3 repository writes StyleGAN2 too, with the synthesis network's arguments among the others.
    known = SUPPORTED.keys() | OTHERS
    arguments = {
        f"synthesis_kwargs.{name}" if f"synthesis_kwargs.{name}" in known else name: value
        for name, value in _flat(options).items()
    }
    for name, value in arguments.items():
        if name not in known or value != SUPPORTED.get(name, value):
            wanted = f"not {SUPPORTED[name]!r}" if name in SUPPORTED else "an argument that StyleGAN2-ADA does not have"
            raise Refusal(f"the generator was built with {name}={value!r}, {wanted}; give another file")
    clamp = arguments.get(CLAMP)
    if clamp is not None and not (isinstance(clamp, int | float) and clamp > 0):
        raise Refusal(f"the generator was built with {CLAMP}={clamp!r}, which is no limit; give another file")

    state: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        state |= _renamed(name, tensor)
    size = replace(StyleGAN2.size_of(state), clamp=clamp, raw_weights=True)
    with torch.device("meta"):
        expected = StyleGAN2(size, feature_layer=1).state_dict().keys() | {"latent_avg"}
    if strange := sorted(state.keys() - expected):
        raise Refusal(f"{strange[0]} has no place in a generator of {size.resolution} px; give another file")
    return size, state


def _flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in options.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat


def _renamed(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """The tensor ``name`` as StyleGAN2 has it; nothing for the unread copies of the resampling filter."""
    if name == "mapping.w_avg":
        return {"latent_avg": tensor}
    if name == "synthesis.b4.const":
        return {"input.input": tensor[None]}
    if match := re.fullmatch(r"mapping\.fc(\d{1,2})\.(weight|bias)", name):
        return {f"style.{int(match[1]) + 1}.{match[2]}": tensor}
    match = LAYER.fullmatch(name)
    # 2^level * 4 is the side; convolutions 2 * level - 1 (conv0, counted from 0) and 2 * level (conv1) belong to it.
    level = int(match[1]).bit_length() - 3 if match else -1
    if not match or int(match[1]) != 4 << max(level, 0) or (level == 0 and match[2] == "conv0"):
        raise Refusal(f"the tensor {name} has no place in a StyleGAN2 generator; give another file")
    layer, kind = match[2], match[3]
    if kind == "resample_filter" and layer != "torgb":
        if layer == "conv1" or level == 0:
            return {}
        ours = f"to_rgbs.{level - 1}.upsample" if layer is None else f"convs.{2 * level - 2}.conv.blur"
        return {f"{ours}.kernel": tensor * 4}  # the gain of inserting zeros, which NVIDIA's operator applies itself
    conv = 2 * level - (layer == "conv0")
    if kind == "noise_const" and layer in ("conv0", "conv1"):
        return {f"noises.noise_{conv}": tensor[None, None]}
    known = {"conv0": STYLED_CONV, "conv1": STYLED_CONV, "torgb": TO_RGB}.get(layer or "", {})
    if kind not in known:
        raise Refusal(f"the tensor {name} has no place in a StyleGAN2 generator; give another file")
    if layer == "torgb":
        ours = f"to_rgbs.{level - 1}" if level else "to_rgb1"
    else:
        ours = f"convs.{conv - 1}" if conv else "conv1"
    if kind == "weight":
        tensor = tensor[None]
    elif kind == "noise_strength":
        tensor = tensor.reshape(-1)
    elif kind == "bias" and layer == "torgb":
        tensor = tensor.reshape(1, -1, 1, 1)
    return {f"{ours}.{known[kind]}": tensor}
