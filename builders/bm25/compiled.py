"""How every kernel of this package is compiled."""

from collections.abc import Callable
from typing import TypeVar, cast

import numba

Kernel = TypeVar("Kernel", bound=Callable[..., object])


def compiled(function: Kernel) -> Kernel:
    """A function over arrays as machine code, kept on disk after its first use.

    It lets go of Python's lock, so that threads run it side by side: numba's own `parallel=True` takes many times
    longer to compile, and its default threads may not be used by two callers at once.
    """
    return cast("Kernel", numba.njit(cache=True, nogil=True)(function))
