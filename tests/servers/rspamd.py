"""A private rspamd that knows only the test texts of spam."""

import os
import signal
import socket
from types import TracebackType
from typing import Self

from tests.servers import install
from tests.servers.process import Sandbox, free_port, signal_group

#: Texts that rspamd refuses, and marks. Joined here, so that no filter finds them in this file.
SPAM = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*" + b"GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
SUSPICIOUS = b"YJS*C4JDBQADN1.NSBN3*2IDNEN*" + b"GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"

# Without hyperscan and with a short list of suffixes it starts in a second, not a minute.
_CONFIGURATION = """\
options {{
  pidfile = "{folder}/rspamd.pid"; tempdir = "{folder}"; hs_cache_dir = "{folder}"; url_tld = "{folder}/suffixes";
  filters = ""; disable_hyperscan = true; enable_test_patterns = true;
  dns {{ nameserver = ["127.0.0.1:9"]; timeout = 0.1s; retransmits = 1; }}
}}
logging {{ type = "console"; level = "warning"; }}
worker "normal" {{ bind_socket = "127.0.0.1:{port}"; count = 1; }}
actions {{ reject = 15; add_header = 6; greylist = 4; }}
"""


class RspamdServer:
    """One rspamd; use as a context manager. It may be killed and paused."""

    def __init__(self) -> None:
        self.port = free_port()
        self._program = install.rspamd()
        self._sandbox = Sandbox("rspamd", "_rspamd")
        folder = self._sandbox.folder
        (folder / "suffixes").write_text("com\ntest\n")
        (folder / "rspamd.conf").write_text(_CONFIGURATION.format(folder=folder, port=self.port))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        argv = [str(self._program), "-f", "-c", str(self._sandbox.folder / "rspamd.conf")]
        argv += [] if self._sandbox.user else ["--insecure"]
        self._sandbox.spawn("rspamd", argv, {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"})
        self._sandbox.wait_until("rspamd", self.answers)

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1.0) as connection:
                connection.sendall(b"GET /ping HTTP/1.0\r\n\r\n")
                return b"pong" in connection.recv(4096)
        except OSError:
            return False

    def pause(self) -> None:
        """Stop its processes with SIGSTOP: the kernel still accepts connections, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def kill9(self) -> None:
        self._signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sandbox.close()

    def _signal(self, which: signal.Signals) -> None:
        if pid := self._sandbox.pid("rspamd"):
            signal_group(pid, which)
