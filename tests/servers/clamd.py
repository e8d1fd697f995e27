"""A private ClamAV daemon with signatures of our own: EICAR's test file, and a marker of these tests."""

import os
import signal
from types import TracebackType
from typing import Self

from mailbbgun.core.errors import ScannerUnavailable
from mailbbgun.safety.scanner import Scanner
from tests.servers import install
from tests.servers.process import Sandbox, free_port, signal_group

#: The test file that every scanner finds. Joined here, so that no scanner finds it in this file.
EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-" + b"ANTIVIRUS-TEST-FILE!$H+H*"
MARKER = b"MAIL-BB-GUN-" + b"TEST-VIRUS"

#: Octets of the largest file that it scans.
MOST = 4 * 1024 * 1024

_CONFIGURATION = """\
Foreground yes
DatabaseDirectory {folder}/db
LocalSocket {folder}/clamd.sock
LocalSocketMode 666
FixStaleSocket yes
TCPAddr 127.0.0.1
TCPSocket {port}
TemporaryDirectory {folder}
OfficialDatabaseOnly no
SelfCheck 600
StreamMaxLength 4M
MaxFileSize 4M
"""


class Clamd:
    """One clamd; use as a context manager. It may be killed, paused and started again."""

    def __init__(self) -> None:
        self.port = free_port()
        self._program = install.clamd()
        self._sandbox = Sandbox("clamd", "clamav")
        self._folder = self._sandbox.folder
        database = self._folder / "db"
        database.mkdir()
        (database / "test.ndb").write_text(f"Eicar-Test-Signature:0:*:{EICAR.hex()}\nTest-Marker:0:*:{MARKER.hex()}\n")
        (self._folder / "clamd.conf").write_text(_CONFIGURATION.format(folder=self._folder, port=self.port))
        self._sandbox.give(database)

    @property
    def url(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def socket_url(self) -> str:
        return f"unix:{self._folder}/clamd.sock"

    def start(self) -> None:
        """Start it if it is not running, and wait until it answers."""
        if self._sandbox.pid("clamd"):
            return
        argv = [str(self._program), "-c", str(self._folder / "clamd.conf")]
        self._sandbox.spawn("clamd", argv, {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"})
        self._sandbox.wait_until("clamd", self.answers)

    def answers(self) -> bool:
        try:
            Scanner(self.url, connect_seconds=1.0).check()
        except ScannerUnavailable:
            return False
        return True

    def kill9(self) -> None:
        self._sandbox.end("clamd", signal.SIGKILL)

    def pause(self) -> None:
        """Stop its process with SIGSTOP: the kernel still accepts connections, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sandbox.close()

    def _signal(self, which: signal.Signals) -> None:
        if pid := self._sandbox.pid("clamd"):
            signal_group(pid, which)
