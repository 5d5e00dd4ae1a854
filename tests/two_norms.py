"""A batch normalisation on one process, and the same on two; imports little, for it is started twice."""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn

from fse.synchronised_norm import synchronise


def two_steps(norm: nn.Module, x: Tensor, weight: Tensor) -> dict[str, Tensor]:
    """What two steps give, with gradients that differ from picture to picture by ``weight``."""
    x = x.clone().requires_grad_()
    norm.train()
    for _ in range(2):
        y = norm(x)
        (y.sin() * weight[:, None, None, None]).sum().backward()
    state = {f"state/{name}": value for name, value in norm.state_dict().items()}
    gradients = {f"gradient/{name}": value.grad for name, value in norm.named_parameters()}
    found = {"y": y, "x": x.grad, "evaluated": norm.eval()(x), **state, **gradients}
    return {name: value.detach() for name, value in found.items()}


def on_one_of_two(rank: int, folder: str, x: Tensor, weight: Tensor) -> None:
    """Process ``rank``'s half of it."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    network = nn.Sequential(nn.BatchNorm2d(3)).double()
    synchronise(network)
    torch.save(two_steps(network[0], x.chunk(2)[rank], weight.chunk(2)[rank]), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()
