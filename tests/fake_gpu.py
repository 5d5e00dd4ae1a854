"""A GPU that has no memory and computes nothing, but refuses operations with tensors that stayed on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode


@contextmanager
def fake_gpu() -> Iterator[None]:
    """Networks that are built inside, and moved by :func:`move`, run with shapes and devices only."""
    with FakeTensorMode():
        yield


def move(network: nn.Module) -> None:
    """What ``network.to("cuda")`` does, which fake tensors do not allow: parameters and buffers, and no more."""
    for module in network.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(parameter.to("cuda"), requires_grad=False)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer.to("cuda")
