"""Child processes and their folder, which vanish with the process that started them, even by ``kill
-9``.
"""

import atexit
import contextlib
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from tests.waiting import wait_until

START_SECONDS = 600.0

#: A library that is loaded into servers, too, if it is loaded into the program that starts them.
PRELOAD = "LD_PRELOAD"

# The guard reads until its parent closes the pipe or dies. Then it kills the process groups that
# are left and removes the folder. It sends QUIT first, so that PostgreSQL frees its shared memory.
_GUARD = """
read -r _
for file in "$1"/*.pid; do [ -f "$file" ] && kill -QUIT "$(cat "$file")" 2>/dev/null && busy=1; done
[ -z "$busy" ] || sleep 1
for file in "$1"/*.pid; do [ -f "$file" ] && kill -s KILL -- "-$(cat "$file")" 2>/dev/null; done
rm -rf -- "$1"
"""


_claims: list[socket.socket] = []


def free_port() -> int:
    """Return a free port of 127.0.0.1 that no other test run gets while this process lives.

    It is below the ephemeral range. Within that range, a client that retries a stopped server could
    be given the server's own port and connect to itself. The claim is a socket in Linux's abstract
    namespace, which cannot be left behind.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)
        claim = socket.socket(socket.AF_UNIX)
        with socket.socket() as probe:
            try:
                claim.bind(f"\0mailbbgun-port-{port}")
                probe.bind(("127.0.0.1", port))
            except OSError:
                claim.close()
                continue
        _claims.append(claim)
        return port


def signal_group(leader: int, which: signal.Signals) -> None:
    """Send a signal to a process group. After SIGSTOP, return when all its threads have stopped.

    The kernel stops a thread when it next runs, so on a busy machine one may go on for a while.
    """
    os.killpg(leader, which)
    if which is signal.SIGSTOP:
        wait_until(lambda: _states(leader) <= set("TtZX"), f"a standstill of process group {leader}")


def _states(leader: int) -> set[str]:
    """Return the states of all threads of a process group (proc_pid_stat(5))."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            if int(_after_name(path)[2]) == leader:
                found |= {_after_name(one)[0] for one in path.parent.glob("task/[0-9]*/stat")}
    return found


def _after_name(path: Path) -> list[str]:
    return path.read_text().rpartition(")")[2].split()


class Sandbox:
    """A folder, a user, and the processes started there.

    ``user`` is used only if we are root and it exists.
    """

    def __init__(self, name: str, user: str, parent: Path | None = None) -> None:
        self.user = user if os.geteuid() == 0 and _exists(user) else None
        self.folder = Path(tempfile.mkdtemp(prefix=f"mailbbgun-{name}-", dir=parent))
        self.give(self.folder)
        self._owner = os.getpid()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "guard", str(self.folder)], stdin=subprocess.PIPE, start_new_session=True
        )
        atexit.register(self.close)

    def give(self, path: Path) -> None:
        """Give a path to the server's user."""
        if self.user:
            shutil.chown(path, self.user, pwd.getpwnam(self.user).pw_gid)

    def run(self, argv: Sequence[str], environment: Mapping[str, str], *, timeout: float = START_SECONDS) -> str:
        """Run a command to its end and return its output.

        Raises ``RuntimeError`` with the output if it fails.
        """
        done = subprocess.run(
            argv,
            env=environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            user=self.user,
            group=self._group(),
            extra_groups=self._groups(),
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{argv[0]} failed ({done.returncode}): {done.stdout[-2000:]}")
        return done.stdout

    def spawn(self, name: str, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start a server in the foreground. Its output goes to ``<name>.log``."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                argv,
                env={name: os.environ[name] for name in (PRELOAD,) if name in os.environ} | {**environment},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=self.user,
                group=self._group(),
                extra_groups=self._groups(),
                start_new_session=True,
            )
        (self.folder / f"{name}.pid").write_text(str(process.pid))
        self._processes[name] = process

    def pid(self, name: str) -> int | None:
        """Return the process id of a running process, else None."""
        process = self._processes.get(name)
        return process.pid if process and process.poll() is None else None

    def wait_until(self, name: str, ready: Callable[[], bool]) -> None:
        """Poll until ``ready()``.

        Raises ``RuntimeError`` with the end of its log if the process ends, or after
        :data:`START_SECONDS`.
        """
        until = time.monotonic() + START_SECONDS
        while not ready():
            if self.pid(name) is None or time.monotonic() > until:
                log = (self.folder / f"{name}.log").read_text(errors="replace")
                raise RuntimeError(f"{name} did not start:\n{log[-3000:]}")
            time.sleep(0.03)

    def end(self, name: str, with_signal: signal.Signals, timeout: float = START_SECONDS) -> None:
        """Signal the process (``SIGKILL``: its whole group) and wait for it; kill it after
        ``timeout`` s.
        """
        process = self._processes.pop(name, None)
        if process is None:
            return
        if process.poll() is None:
            if with_signal != signal.SIGKILL:
                process.send_signal(with_signal)
                with contextlib.suppress(subprocess.TimeoutExpired):  # the group is killed below
                    process.wait(timeout)
            _kill_group(process.pid)
            process.wait()
        (self.folder / f"{name}.pid").unlink(missing_ok=True)

    def close(self) -> None:
        """Kill all that still runs and remove the folder.

        Safe to repeat; does nothing in a forked child.
        """
        atexit.unregister(self.close)
        if os.getpid() != self._owner or self._guard.stdin is None or self._guard.stdin.closed:
            return
        for name in list(self._processes):
            self.end(name, signal.SIGKILL)
        self._guard.stdin.close()
        self._guard.wait()

    def _group(self) -> int | None:
        return pwd.getpwnam(self.user).pw_gid if self.user else None

    def _groups(self) -> list[int] | None:
        return os.getgrouplist(self.user, pwd.getpwnam(self.user).pw_gid) if self.user else None


def kill_sessions(sessions: Collection[int]) -> list[int]:
    """Kill the processes of these sessions that have not ended; return them."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ends just now
            state, _parent, _group, session = stat.read_text().rpartition(")")[2].split()[:4]
            if int(session) in sessions and state not in "ZX":
                found.append(int(stat.parent.name))
                os.kill(found[-1], signal.SIGKILL)
    return found


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # the whole group has ended
        os.killpg(pid, signal.SIGKILL)
