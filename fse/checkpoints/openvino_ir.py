"""Constants out of OpenVINO intermediate representation (IR v10/v11) files, without OpenVINO.

An IR is an XML graph and a flat binary file; a ``Const`` layer names its element type, shape, offset and
size in the binary. Reading them needs no code of the file to run.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fse.refusal import Refusal


@dataclass(frozen=True)
class Constant:
    """A float32 constant of the graph: its layer's name, its values, and the types of the layers it feeds."""

    name: str
    value: Tensor
    feeds: tuple[str, ...]


class _WithoutEntities(ElementTree.TreeBuilder):
    """Stops where a document type begins: entities, which it declares, are how XML bombs are built. An IR has none."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it declares a document type")


def read_constants(xml: Path) -> list[Constant]:
    """Every float32 ``Const`` of an IR, in the graph's topological order.

    Parameters
    ----------
    xml : Path
        The graph; its binary is the file beside it that ends in ``.bin``.

    Raises
    ------
    Refusal
        When a file is missing, is no IR, or the binary is shorter than the graph says.
    """
    binary = xml.with_suffix(".bin")
    for path in (xml, binary):
        if not path.is_file():
            raise Refusal(f"{path} is missing; run `python -m pipelines.assets` to obtain it")
    try:
        net = ElementTree.fromstring(xml.read_bytes(), ElementTree.XMLParser(target=_WithoutEntities()))
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # the last two of unknown encodings
        raise Refusal(f"{xml} is not the XML of an OpenVINO IR ({error}); obtain it again") from error
    layers, edges = net.find("layers"), net.find("edges")
    if net.tag != "net" or layers is None or edges is None:
        raise Refusal(f"{xml} is not an OpenVINO IR (no <net> with <layers> and <edges>); obtain it again")

    kind = {layer.get("id"): layer.get("type", "") for layer in layers}
    feeds: dict[str | None, list[str]] = {}
    for edge in edges:
        feeds.setdefault(edge.get("from-layer"), []).append(kind.get(edge.get("to-layer"), ""))

    raw = np.memmap(binary, dtype=np.uint8, mode="r") if binary.stat().st_size else np.empty(0, np.uint8)
    constants = []
    for layer in layers:
        data = layer.find("data")
        if layer.get("type") != "Const" or data is None or data.get("element_type") != "f32":
            continue
        try:
            shape = [int(side) for side in data.get("shape", "").split(",") if side.strip()]
            offset, size = int(data.get("offset", "")), int(data.get("size", ""))
        except ValueError as error:
            raise Refusal(f"{xml}: layer {layer.get('name')} has a malformed shape, offset or size") from error
        if min([offset, *shape]) < 0 or len(shape) > 16 or size != 4 * prod(shape) or offset + size > raw.size:
            raise Refusal(
                f"{binary} has {raw.size} bytes, but layer {layer.get('name')} of {xml.name} lies at "
                f"{offset}..{offset + size} with shape {shape}; the file is truncated, obtain it again"
            )
        value = np.frombuffer(raw[offset : offset + size].tobytes(), dtype="<f4").astype(np.float32).reshape(shape)
        name = layer.get("name", "")
        constants.append(Constant(name, torch.from_numpy(value), tuple(feeds.get(layer.get("id"), []))))
    return constants
