"""Stand-ins of MTCNN's three arrays: a face is found in every picture, with landmarks as a face has them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from eval.metrics.mtcnn import CROP, MTCNN, TEMPLATE
from pipelines.rehearsal.filling import fill_network

_SURE = 3.0
"""Logit of "face": a probability of 0.95, above every threshold."""


def write_mtcnn(folder: Path) -> None:
    """``pnet.npy``, ``rnet.npy`` and ``onet.npy``: each a dictionary, which NumPy pickles as one object.

    P-Net proposes what has more than 0.15 of its row, so one that sees no difference proposes each place of the
    coarsest maps, up to 6 wide, and none of the others.
    """
    detector = MTCNN()
    for name, network in detector.named_children():
        fill_network(network, f"mtcnn {name}")
        for part, head in network.named_children():
            if part != "features":
                assert isinstance(head, nn.Conv2d | nn.Linear)
                head.weight.mul_(0.02)
    for face in (detector.rnet.conv5_1, detector.onet.conv6_1):
        face.bias[1] = _SURE
    detector.onet.conv6_3.bias.copy_(torch.from_numpy(TEMPLATE.T.ravel() / CROP))
    for name, network in detector.named_children():
        state = {key: value.numpy() for key, value in network.state_dict().items()}
        write_numpy_dictionary(state, folder / f"{name}.npy")


def write_numpy_dictionary(content: dict[str, Any], path: Path) -> None:
    """As NumPy 1.x saved an object from Python 3: pickled by protocol 2, under the old name of NumPy's core."""
    header = {"descr": "|O", "fortran_order": False, "shape": ()}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        pickled = pickle.dumps(np.array(content, dtype=object), protocol=2)
        file.write(pickled.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))
