"""The device that a user names."""

from __future__ import annotations

import torch

from fse.refusal import Refusal


def usable_device(name: str | torch.device) -> torch.device:
    """The device ``name`` (cpu, cuda, cuda:1, mps); raises Refusal where there is none of that name."""
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise Refusal(f"the device {name} cannot be used ({reason}): give cpu, or cuda") from error
