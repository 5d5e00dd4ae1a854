"""Networks that know their own size, so that a file of weights can say how to build them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn


class SizedNetwork(nn.Module):
    """A network built from one dataclass, ``Size``, that it keeps as ``size``.

    The official networks and the light ones of the embedded profile are the same classes at different sizes.
    """

    Size: ClassVar[type[Any]]
    size: Any

    @classmethod
    def size_of(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> Any:
        """The ``Size`` of the network whose parameters are among ``tensors``, which may be of any network.

        ``options`` are what an official file says of itself beside its tensors; few networks need them.

        Raises
        ------
        Refusal
            Naming the parameter that this kind of network has and ``tensors`` lack.
        """
        raise NotImplementedError(f"{cls.__name__} has no official files")
