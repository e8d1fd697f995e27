"""Describes the machine that the figures were measured on."""

import os
import platform
import sqlite3
import statistics
import subprocess
import sysconfig
import tempfile
import time
from pathlib import Path

import psycopg2
from sqlalchemy.engine import make_url

from bench import ROOT


def facts(sink: str, servers: dict[str, str]) -> dict[str, object]:
    """Return all that a reader of the figures must know about this machine."""
    folder = Path(tempfile.gettempdir())
    return {
        "cpu": _cpu(),
        "cores": cores(),
        "python": f"{platform.python_version()} ({build()})",
        "servers": servers | {"SQLite": sqlite3.sqlite_version},
        "sink": sink,
        "filesystem": filesystem(folder),
        "fsync_ms": round(fsync_ms(folder), 3),
        "load": round(os.getloadavg()[0], 2),
        "commit": _commit(),
    }


def build() -> str:
    """Return how the interpreter was built. Without optimizations it costs 12 to 15 % more CPU."""
    given = sysconfig.get_config_var("CONFIG_ARGS") or ""
    # Some distributions pass their flags to make, not to configure. Then they are among the flags
    # it was compiled with.
    flags = " ".join(
        str(sysconfig.get_config_var(name) or "") for name in ("PY_CFLAGS", "PY_CORE_CFLAGS", "PY_LDFLAGS")
    )
    found = {
        "PGO": "--enable-optimizations" in given or "-fprofile-use" in flags or "-fprofile-instr-use" in flags,
        "LTO": "--with-lto" in given.replace("--with-lto=no", "") or "-flto" in flags,
        "debug": bool(sysconfig.get_config_var("Py_DEBUG")),
    }
    return ", ".join(name for name, is_so in found.items() if is_so) or "built without optimizations"


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def line(known: dict[str, object]) -> str:
    """Return the facts as one line."""
    servers = known["servers"]
    assert isinstance(servers, dict)
    parts = [
        str(known["cpu"]),
        f"{known['cores']} cores",
        f"Python {known['python']}",
        *(f"{name} {version}" for name, version in servers.items()),
        f"{known['filesystem']}, {known['fsync_ms']} ms an fsync",
        f"load before {known['load']}",
        f"commit {known['commit']}",
    ]
    return " · ".join(parts)


def filesystem(folder: Path) -> str:
    """Return the type of the file system that a folder is on."""
    path, best = f"{folder.resolve()}/", ("", "unknown")
    for mount in Path("/proc/mounts").read_text().splitlines():
        _, point, kind = mount.split()[:3]
        if path.startswith(f"{point.rstrip('/')}/") and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1]


def fsync_ms(folder: Path, times: int = 30) -> float:
    """Return the median milliseconds of appending 4 KB and syncing them to disk."""
    taken = []
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(times):
            began = time.perf_counter()
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1e3


def postgresql_version(url: str) -> str:
    """Return the version of a PostgreSQL server."""
    connection = psycopg2.connect(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False))
    try:
        return f"{connection.server_version // 10_000}.{connection.server_version % 10_000}"
    finally:
        connection.close()


def _cpu() -> str:
    for text in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = text.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _commit() -> str:
    """Return the commit, with ``+`` if the working tree has changes; ``unknown`` without git."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--match="],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() or "unknown"
