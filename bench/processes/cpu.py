"""Reads CPU seconds and memory of whole process trees from /proc."""

import os
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def of(pid: int) -> float:
    """Return the CPU seconds (user and system) of a process and its descendants.

    Children that have ended and were waited for are included.
    """
    own, children = _processes()
    return sum(own.get(one, 0.0) for one in _tree(pid, children))


def tree(pid: int) -> list[int]:
    """Return the process ids of a process and its descendants."""
    return _tree(pid, _processes()[1])


def memory_of(pid: int) -> float:
    """Return the memory of a process and its descendants in bytes.

    A page shared by several processes is divided among them (proportional set size).
    """
    return sum(map(_proportional, tree(pid)))


def peak_of(pid: int) -> float:
    """Return the most bytes that one process of a tree had resident at any time.

    It counts shared pages in full, and no process that has ended.
    """
    return max(map(_peak, tree(pid)))


class Meter:
    """Measures the CPU seconds that groups of process trees use from now on."""

    def __init__(self, groups: Mapping[str, Collection[int]]) -> None:
        self._groups = groups
        self._before = self._seconds()

    def read(self) -> dict[str, float]:
        """Return the CPU seconds that each group has used since the meter was made."""
        return {group: seconds - self._before[group] for group, seconds in self._seconds().items()}

    def _seconds(self) -> dict[str, float]:
        own, children = _processes()
        return {
            group: sum(own.get(one, 0.0) for pid in pids for one in _tree(pid, children))
            for group, pids in self._groups.items()
        }


def _processes() -> tuple[dict[int, float], dict[int, list[int]]]:
    """Return the CPU seconds of every process (with its ended children) and its live children."""
    own: dict[int, float] = {}
    children: dict[int, list[int]] = defaultdict(list)
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                words = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it ended meanwhile
            own[int(name)] = sum(map(int, words[11:15])) / TICKS
            children[int(words[1])].append(int(name))
    return own, children


def _tree(pid: int, children: Mapping[int, list[int]]) -> list[int]:
    return [pid, *(one for child in children.get(pid, ()) for one in _tree(child, children))]


def _proportional(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0  # it ended meanwhile
    return sum(float(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _peak(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0  # it ended meanwhile
    return sum(float(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
