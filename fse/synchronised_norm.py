"""Batch normalisation over the batch of all processes, on any device.

PyTorch's own, ``SyncBatchNorm``, runs on GPUs only, so that nobody could test on a CPU that a training on several
processes is the training on one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributed import get_world_size, is_available, is_initialized
from torch.distributed.nn.functional import all_reduce as differentiable_all_reduce


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` whose mean and variance in training are those of all processes' pictures together.

    Exact where every process has equally many, as they have here, and the same as ``nn.BatchNorm2d`` on one process and
    in evaluation. The reductions are differentiable: a process's gradient holds what its pictures do to the others'.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and is_available() and is_initialized() and get_world_size() > 1):
            normalised: Tensor = super().forward(x)
            return normalised
        processes = get_world_size()
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        mean = _sum(values.mean((0, 2, 3))) / processes
        # Of deviations from the common mean: the mean of squares minus the squared mean would cancel.
        variance = _sum((values - mean[:, None, None]).square().mean((0, 2, 3))) / processes
        self._track(mean.detach(), variance.detach(), processes * x.numel() // x.shape[1])
        scale = torch.rsqrt(variance + self.eps)
        if self.affine:
            scale = scale * self.weight
        normalised = (values - mean[:, None, None]) * scale[:, None, None]
        if self.affine:
            normalised = normalised + self.bias[:, None, None]
        return normalised.to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Running statistics, the variance unbiased, as :class:`nn.BatchNorm2d` keeps them."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), momentum)
        self.running_var.lerp_((variance * (count / max(1, count - 1))).to(self.running_var), momentum)


def _sum(values: Tensor) -> Tensor:
    summed: Tensor = differentiable_all_reduce(values)
    return summed


def synchronise(network: nn.Module) -> None:
    """Put :class:`SynchronisedBatchNorm2d` in the place of every ``nn.BatchNorm2d`` inside ``network``.

    Parameters and buffers stay the same objects under the same names.
    """
    for name, child in network.named_children():
        if type(child) is nn.BatchNorm2d:
            norm = SynchronisedBatchNorm2d(
                child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats
            )
            norm._parameters, norm._buffers = child._parameters, child._buffers
            network.add_module(name, norm.train(child.training))
        else:
            synchronise(child)
