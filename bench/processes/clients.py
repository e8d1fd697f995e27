"""Runs the bench's client programs, each in a process of its own, and reads their figures."""

import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from bench import OURSELVES, ROOT, BenchError
from tests.servers.process import Sandbox

LOOK_SECONDS = 0.01

_numbers = itertools.count()


class Clients:
    """Runs client programs. Their output goes to a temporary folder."""

    def __init__(self) -> None:
        self._sandbox = Sandbox("bench-clients", OURSELVES)

    def run(
        self,
        program: str,
        *arguments: object,
        on_progress: Callable[[str], object] = lambda _: None,
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Run ``python -m bench.<program>`` to its end and return the JSON it printed.

        ``on_progress`` is called with the latest line of its output while it runs. Raises
        :class:`BenchError` with its output if it failed.
        """
        title = program.rpartition(".")[2]
        name = f"{title}-{next(_numbers)}"
        variables = os.environ | {"PYTHONPATH": str(ROOT)} | dict(environment or {})
        self._sandbox.spawn(name, [python, "-m", f"bench.{program}", *map(str, arguments)], variables)
        log = self._sandbox.folder / f"{name}.log"
        while self._sandbox.pid(name) is not None:
            time.sleep(LOOK_SECONDS)
            on_progress(log.read_text(errors="replace").rstrip().rpartition("\n")[2])
        said = log.read_text(errors="replace").rstrip()
        try:
            figures = json.loads(said.rpartition("\n")[2])
        except ValueError:
            figures = None
        if not isinstance(figures, dict) or "seconds" not in figures:  # a server's answer in the output may be JSON too
            raise BenchError(f"{title}: {said[-2000:]}")
        return figures

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sandbox.close()
