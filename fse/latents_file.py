"""Inversions on disk: a safetensors file of codes, feature tensor and what else a method's edit has to keep.

The picture is not stored: it is what the generator makes of the codes and the feature tensor. The header names the
method, the generator and every shape, so that another method's file is refused and not misread.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import torch
from torch import Tensor, nn

from fse.checkpoints.safetensors_file import read_tensors, write_tensors
from fse.generators.style_generator import StyleGenerator
from fse.inversion import Inversion, InversionMethod
from fse.refusal import Refusal

FORMAT = "fse-latents"
BATCH = 8
"""Pictures that are rendered together while a file is read."""


def fingerprint(generator: StyleGenerator) -> str:
    """What tells a generator from another: a hash of its parameters, whatever device they are on and whatever K is."""
    state = generator.state_dict() if isinstance(generator, nn.Module) else {"mean_code": generator.mean_code}
    digest = hashlib.sha256(f"{type(generator).__name__} {generator.resolution}".encode())
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:12]


def write_latents(
    path: Path, inversion: Inversion, names: Sequence[str], method: str, generator: StyleGenerator
) -> None:
    """Write the inversion of the pictures ``names`` by the method of the name ``method``, whole or not at all.

    Raises
    ------
    Refusal
        When the file cannot be written, or the method's inversions hold what is no tensor.
    """
    kept = {field.name: getattr(inversion, field.name) for field in fields(inversion) if field.name != "picture"}
    for name, value in kept.items():
        if not isinstance(value, Tensor | None):
            raise Refusal(f"{path} was not written: the inversions of {method!r} hold {name}, which is no tensor")
    tensors: dict[str, Tensor] = {name: value for name, value in kept.items() if value is not None}
    header = {
        "format": FORMAT,
        "method": method,
        "generator": fingerprint(generator),
        "names": json.dumps(list(names)),
        "shapes": json.dumps({name: None if value is None else list(value.shape) for name, value in kept.items()}),
    }
    try:
        write_tensors(path, tensors, header)
    except OSError as error:
        raise Refusal(f"the latents {path} cannot be written ({error}); make room or choose another folder") from error


@torch.no_grad()
def read_latents(
    path: Path, method_name: str, method: InversionMethod, generator: StyleGenerator
) -> tuple[Inversion, list[str]]:
    """The inversion that :func:`write_latents` wrote, with its picture rendered again, and the pictures' names.

    Parameters
    ----------
    generator : StyleGenerator
        The method's, at its K. The tensors go to its device.

    Raises
    ------
    Refusal
        When the file is missing or damaged, or another method's or another generator's.
    """
    remedy = "invert the pictures again and save their latents"
    if not path.is_file():
        raise Refusal(f"there are no latents {path}; {remedy}")
    tensors, header = read_tensors(path, remedy)
    if header.get("format") != FORMAT:
        raise Refusal(f"{path} holds no latents of an inversion; {remedy}")
    if (found := header.get("method")) != method_name:
        raise Refusal(f"{path} holds latents of the method {found!r}, not of {method_name!r}; choose that method")
    if header.get("generator") != fingerprint(generator):
        raise Refusal(f"{path} was made with another generator than the present one; {remedy}")
    kind = _kind(method)
    shapes, names = _described(path, header, kind, remedy)
    values: dict[str, Any] = {}
    for name, shape in shapes.items():
        values[name] = tensors.get(name)
        if (None if values[name] is None else list(values[name].shape)) != shape:
            raise Refusal(f"{path} is damaged: {name} is not of the shape {shape} that its header says; {remedy}")
        if values[name] is not None:
            if values[name].dtype != torch.float32 or len(values[name]) != len(names):
                raise Refusal(f"{path} is damaged: {name} is not in single precision for {len(names)} names; {remedy}")
            if not values[name].isfinite().all():
                raise Refusal(f"{path} is damaged: {name} holds numbers that are not finite; {remedy}")
            values[name] = values[name].to(generator.mean_code.device, copy=True)
    codes, feature = values["codes"], values["feature"]
    fits = shapes["codes"] == [len(names), generator.num_codes, generator.code_dim]
    if not fits or shapes["feature"] not in (None, [len(names), *generator.feature_shape]):
        raise Refusal(f"{path} does not fit the method {method_name!r} and its generator; {remedy}")
    starts = range(0, len(names), BATCH)
    features = [None if feature is None else feature[i : i + BATCH] for i in starts]
    pictures = [generator.synthesize(codes[i : i + BATCH], part) for i, part in zip(starts, features, strict=True)]
    return kind(picture=torch.cat(pictures), **values), names


def _described(
    path: Path, header: dict[str, str], kind: type[Inversion], remedy: str
) -> tuple[dict[str, Any], list[str]]:
    """Shapes and names of the header; raises Refusal if they are none."""
    wanted = {field.name for field in fields(kind)} - {"picture"}
    try:
        shapes, names = json.loads(header["shapes"]), json.loads(header["names"])
        if set(shapes) != wanted or shapes["codes"] is None:
            raise ValueError(f"it should describe {', '.join(sorted(wanted))}")
        # They become names of files.
        if not names or any(type(n) is not str or re.search(r"^\.*$|[/\\:\0]", n) for n in names):
            raise ValueError("its names are no names of pictures")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise Refusal(f"{path} is damaged: its header does not describe its tensors ({error}); {remedy}") from error
    return shapes, list(names)


def _kind(method: InversionMethod) -> type[Inversion]:
    """What the method's ``invert`` says that it returns: the file does not choose what is built of it."""
    try:
        kind = get_type_hints(method.invert).get("return")
    except (NameError, TypeError):  # annotations that another package's method leaves open
        kind = None
    return kind if isinstance(kind, type) and issubclass(kind, Inversion) else Inversion
