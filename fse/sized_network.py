"""Networks that know their own size, so that a file of weights can say how to build them."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn


class SizedNetwork(nn.Module):
    """A network built from one dataclass, ``Size``, that it keeps as ``size``.

    The official networks and the light ones of the embedded profile are the same classes at different sizes.
    """

    Size: ClassVar[type[Any]]
    size: Any
