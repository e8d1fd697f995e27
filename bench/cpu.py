"""CPU seconds of whole process trees, from /proc."""

import os
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def of(pid: int) -> float:
    """Return the CPU seconds, user and system, of a process, its descendants, and those of its children that have ended."""
    own, children = _processes()
    return _tree(pid, own, children)


def of_the_rest(known: Collection[int]) -> float:
    """Return the CPU seconds of everything this process has started, but for the trees of ``known``: the servers."""
    own, children = _processes()
    return sum(_tree(pid, own, children) for pid in children[os.getpid()] if pid not in known)


def _processes() -> tuple[dict[int, float], dict[int, list[int]]]:
    """Return the seconds of every process (with its ended children's) and the live children of each."""
    own: dict[int, float] = {}
    children: dict[int, list[int]] = defaultdict(list)
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                words = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it ended while we looked
            own[int(name)] = sum(map(int, words[11:15])) / _TICKS
            children[int(words[1])].append(int(name))
    return own, children


def _tree(pid: int, own: dict[int, float], children: dict[int, list[int]]) -> float:
    return own.get(pid, 0.0) + sum(_tree(child, own, children) for child in children.get(pid, ()))
