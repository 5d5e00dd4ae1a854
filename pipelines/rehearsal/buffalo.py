"""Stand-ins of the two networks of InsightFace's pack ``buffalo_l`` that are used here, as ONNX graphs.

Inputs, outputs and their names are those of ``det_10g.onnx`` (SCRFD: scores, boxes and landmarks at strides of 8, 16
and 32 pixels, two anchors a place) and ``w600k_r50.onnx`` (ArcFace).
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from eval.metrics.mtcnn import CROP, TEMPLATE
from pipelines.rehearsal.filling import normal

_OUTPUTS = {8: ("448", "451", "454"), 16: ("471", "474", "477"), 32: ("494", "497", "500")}
"""Stride -> scores (N, 1), distances to the box's edges (N, 4) and to the landmarks (N, 10), in strides."""

_ANCHORS = 2
_HALF_SIDE = 3.0
"""Of the boxes, in strides: 192 of the 640 pixels that the detector sees."""


def write_buffalo(archive: Path, unpacked: Path) -> None:
    """``buffalo_l.zip``, and its two members unpacked, as ``fetch`` leaves them."""
    unpacked.mkdir(parents=True, exist_ok=True)
    models = {"det_10g.onnx": _detector(), "w600k_r50.onnx": _recogniser()}
    with zipfile.ZipFile(archive, "w") as file:
        for name, model in models.items():
            content = model.SerializeToString()
            file.writestr(zipfile.ZipInfo(name), content)
            (unpacked / name).write_bytes(content)


def _detector() -> onnx.ModelProto:
    """The mean colour of each place decides; only the coarsest map has scores above a half, at every place."""
    nodes, constants, outputs = [], [], []
    landmarks = (TEMPLATE / CROP * 2 - 1) * _HALF_SIDE
    for stride, names in _OUTPUTS.items():
        nodes.append(
            helper.make_node(
                "AveragePool", ["input.1"], [f"mean{stride}"], kernel_shape=[stride] * 2, strides=[stride] * 2
            )
        )
        biases = (np.full(1, 1.0 if stride == 32 else -8.0), np.full(4, _HALF_SIDE), landmarks.ravel())
        for name, bias in zip(names, biases, strict=True):
            width = len(bias)
            weight = 0.02 * normal(f"buffalo_l {name}", (_ANCHORS * width, 3, 1, 1))
            constants += [
                numpy_helper.from_array(weight, f"weight{name}"),
                numpy_helper.from_array(np.tile(bias, _ANCHORS).astype(np.float32), f"bias{name}"),
                numpy_helper.from_array(np.array([-1, width]), f"shape{name}"),
            ]
            nodes += [
                helper.make_node("Conv", [f"mean{stride}", f"weight{name}", f"bias{name}"], [f"map{name}"]),
                helper.make_node("Transpose", [f"map{name}"], [f"places{name}"], perm=[0, 2, 3, 1]),
            ]
            rows = f"rows{name}" if width == 1 else name
            nodes.append(helper.make_node("Reshape", [f"places{name}", f"shape{name}"], [rows]))
            if width == 1:
                nodes.append(helper.make_node("Sigmoid", [rows], [name]))
    for part, width in enumerate((1, 4, 10)):
        for names in _OUTPUTS.values():
            outputs.append(helper.make_tensor_value_info(names[part], TensorProto.FLOAT, [None, width]))
    return _model(nodes, [1, 3, "?", "?"], outputs, constants)


def _recogniser() -> onnx.ModelProto:
    """7 x 7 mean colours of a crop of 112 px, through a linear layer."""
    weight: NDArray[np.float32] = normal("buffalo_l 683", (512, 147))
    nodes = [
        helper.make_node("AveragePool", ["input.1"], ["colours"], kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("Flatten", ["colours"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["683"], transB=1),
    ]
    constants = [
        numpy_helper.from_array(weight, "weight"),
        numpy_helper.from_array(np.zeros(512, np.float32), "bias"),
    ]
    outputs = [helper.make_tensor_value_info("683", TensorProto.FLOAT, [1, 512])]
    return _model(nodes, ["None", 3, CROP, CROP], outputs, constants)


def _model(
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int | str],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Sequence[onnx.TensorProto],
) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, shape)]
    graph = helper.make_graph(list(nodes), "torch-jit-export", inputs, list(outputs), list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    onnx.checker.check_model(model)
    return model
