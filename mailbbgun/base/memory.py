"""How the C library hands out memory, and that none of it is written to disk."""

import contextlib
import ctypes
import resource

_ARENA_MAX = -8  # M_ARENA_MAX of glibc's malloc.h
ARENAS = 2


def few_arenas() -> None:
    """Let all threads share two heaps. To be called before there are any.

    glibc gives each thread one of its own, up to eight for each core, and what bodies of all sizes leave free in one is of no use to the
    others: a process with many threads grows for hours. Python's threads take turns anyway. Other C libraries do not know of this.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, ARENAS)


def no_core_dumps() -> None:
    """Leave no core file when this process crashes, nor any of its children's: passwords, keys and mail are in its memory.

    A program that the system's ``core_pattern`` pipes memory to (core(5)) has its own rule; systemd-coredump's is this one.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
