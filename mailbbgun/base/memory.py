"""How the C library hands out memory."""

import contextlib
import ctypes

_ARENA_MAX = -8  # M_ARENA_MAX of glibc's malloc.h
ARENAS = 2


def few_arenas() -> None:
    """Let all threads share two heaps. To be called before there are any.

    glibc gives each thread one of its own, up to eight for each core, and what bodies of all sizes leave free in one is of no use to the
    others: a process with many threads grows for hours. Python's threads take turns anyway. Other C libraries do not know of this.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, ARENAS)
