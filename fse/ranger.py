"""Ranger, the optimiser that the FSE release and pSp's family train with: three published ideas on top of Adam.

RAdam (Liu et al., ICLR 2020), which PyTorch has; Lookahead (Zhang et al., NeurIPS 2019); gradient centralisation (Yong
et al., ECCV 2020). Put together, and named, by L. Wright; the constants here are the defaults of that package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import RAdam


class Ranger(RAdam):
    """Gradients of matrices and kernels lose their mean over all but the first axis; then a step of RAdam; and after
    every ``every`` steps the weights go back to ``pull`` of the way from the slow weights, which follow them there.

    Parameters
    ----------
    params, lr, betas, eps
        As those of :class:`torch.optim.RAdam`.
    every, pull : int, float
        k and alpha of Lookahead.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.95, 0.999),
        eps: float = 1e-5,
        *,
        every: int = 6,
        pull: float = 0.5,
    ) -> None:
        super().__init__(params, lr, betas, eps)
        for group in self.param_groups:
            group.setdefault("every", every)
            group.setdefault("pull", pull)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; gradients are changed in place."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        moved = [(group, p) for group in self.param_groups for p in group["params"] if p.grad is not None]
        # The slow weights begin where the fast ones do.
        slow = {p: p.detach().clone() for _, p in moved if "slow" not in self.state[p]}
        for _, parameter in moved:
            if parameter.grad.ndim > 1:
                parameter.grad.sub_(parameter.grad.mean(tuple(range(1, parameter.grad.ndim)), keepdim=True))
        super().step()
        for group, parameter in moved:
            state = self.state[parameter]
            state.setdefault("slow", slow.get(parameter))
            if int(state["step"]) % group["every"] == 0:
                state["slow"].lerp_(parameter, group["pull"])
                parameter.copy_(state["slow"])
        return loss
