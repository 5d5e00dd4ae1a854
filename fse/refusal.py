"""What happens when an input from outside (file, folder, parameter, checkpoint) cannot be used."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec

P = ParamSpec("P")


class Refusal(ValueError):
    """An input that cannot be used; the message is one sentence with the file, the reason and the remedy."""


def exit_on_refusal(main: Callable[P, None]) -> Callable[P, None]:
    """Wrap a command line's ``main``: a :class:`Refusal` prints one line on stderr and exits with code 2.

    ``Ctrl-C`` exits with 130, the shell's convention, and no traceback. Any other exception is a defect
    of this project and keeps its traceback.
    """

    @functools.wraps(main)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            main(*args, **kwargs)
        except Refusal as refusal:
            print(f"error: {refusal}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)

    return wrapped
