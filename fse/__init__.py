"""The Feature-Style Encoder (Yao et al., ECCV 2022) and what an inversion needs around it.

``from fse import Inverter`` is all that a user's own pictures need; see :mod:`fse.api`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fse.api import Inverter

__all__ = ["Inverter"]


def __getattr__(name: str) -> Any:
    """Loaded when it is asked for: ``import fse`` and its light modules do without PyTorch."""
    if name in __all__:
        from fse import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
