"""A private Postfix that relays to the sink, with its own configuration, queue, data and log.

It touches no mail server of the machine. It is tuned as an administrator would who has one
smarthost near by and wants speed without losing mail:

- Durability is not a setting: ``cleanup`` calls fsync before it answers 250.
- It makes as many deliveries at once as our worker has connections, from the first message on
  (``initial_destination_concurrency``; by default it starts with 5 and adapts).
- It opens a connection for each message (``smtp_connection_cache_on_demand = no``). With a sink on
  the same machine that is cheaper than passing a connection from process to process: with 20
  deliveries at once it drains 2,500 messages a second, with the cache 1,700.
- ``in_flow_delay = 0``: it does not slow down accepting while deliveries lag behind.
- It looks nothing up: no DNS, no client names, no local recipients, no aliases; no filters, no
  content checks, no chroot.
- Into a sink with TLS it uses STARTTLS and checks the certificate and the name in it. There it keeps
  connections (``smtp_tls_connection_reuse``), because a handshake for each message would cost more.
  It does not log in, which would need a plugin of another package; once a session that is little.
- It may run enough processes for everything at once (``default_process_limit``).
- Logging keeps its default, five lines per message, by its own ``postlogd``: nobody runs a mail
  server without a log.

While there is no queue manager it only accepts: ``cleanup`` notifies it by a FIFO that nobody
reads. The backlog drains when the same queue is started with a queue manager.
"""

import os
import shutil
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from bench import OURSELVES, BenchError
from bench.processes import postfix
from bench.processes.clients import Clients
from bench.processes.sink import NAME as SINK_NAME
from bench.processes.system import Progress
from bench.programs.shapes import SHORT
from tests.servers.install import Missing
from tests.servers.process import Sandbox, free_port

USER, GROUP = "postfix", "postdrop"
QUEUES = ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace")

_MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
daemon_directory = {daemons}
mail_owner = {user}
setgid_group = {group}
maillog_file = {folder}/mail.log
maillog_file_prefixes = {folder}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = postfix.example.test
mynetworks = 127.0.0.0/8
mydestination =
alias_maps =
local_recipient_maps =
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
smtp_host_lookup = native
relayhost = [127.0.0.1]:{sink}
smtp_destination_concurrency_limit = {sessions}
initial_destination_concurrency = {sessions}
default_process_limit = {processes}
in_flow_delay = 0
import_environment = {imported} LD_PRELOAD
"""

_CLEAR = """\
smtp_connection_cache_on_demand = no
"""

# A queue of 5,000 messages never lets a connection rest, so the limits of time do not matter.
_ENCRYPTED = """\
smtp_tls_security_level = secure
smtp_tls_secure_cert_match = {name}
smtp_tls_CAfile = {folder}/etc/ca.pem
smtp_tls_connection_reuse = yes
smtp_connection_cache_on_demand = yes
smtp_connection_reuse_count_limit = 100
"""

_SERVICES = """\
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
scache unix - - n - 1 scache
anvil unix - - n - 1 anvil
tlsmgr unix - - n 1000? 1 tlsmgr
tlsproxy unix - - n - 0 tlsproxy
postlog unix-dgram n - n - 1 postlogd
"""
_QUEUE_MANAGER = "qmgr unix n - n 300 1 qmgr\n"


class Postfix:
    """One instance."""

    servers: ClassVar[Mapping[str, int]] = {}

    def __init__(self, sink_port: int, sessions: int, connections: int, ca_file: Path | None = None) -> None:
        """``sessions`` is the most SMTP connections to the sink.

        ``ca_file`` has the authority of a sink with TLS. Raises :class:`tests.servers.install.Missing`.
        """
        check()
        self.port = free_port()
        self._sandbox = Sandbox("bench-postfix", OURSELVES)
        self._folder = self._sandbox.folder
        self._fifo: int | None = None
        self._delivers = False
        daemons = postfix.default("daemon_directory")
        self._argv = [f"{daemons}/master", "-c", str(self._folder / "etc"), "-d"]
        self._prepare()
        more = _CLEAR
        if ca_file:
            shutil.copyfile(ca_file, self._folder / "etc" / "ca.pem")
            more = _ENCRYPTED
        (self._folder / "etc" / "main.cf").write_text(
            (_MAIN + more).format(
                folder=self._folder,
                daemons=daemons,
                name=SINK_NAME,
                user=USER,
                group=GROUP,
                imported=postfix.default("import_environment"),
                sink=sink_port,
                sessions=sessions,
                processes=max(100, connections + sessions + 20),
            )
        )

    def open(self) -> None:
        """Start the part that accepts, unless everything runs already."""
        if not self._delivers:
            self._make_fifo()
            self._start("")

    def shut(self) -> None:
        """Stop all of it."""
        self._sandbox.end("master", signal.SIGTERM)
        if self._fifo is not None:
            os.close(self._fifo)
            self._fifo = None

    def deliver(self) -> None:
        """Start everything, on the queue there is."""
        (self._folder / "queue" / "public" / "qmgr").unlink()
        self._delivers = True
        self._start(_QUEUE_MANAGER)

    def hand_in(
        self,
        clients: Clients,
        first: int,
        count: int,
        connections: int,
        on_progress: Progress = lambda _: None,
        shape: str = SHORT,
    ) -> dict[str, Any]:
        """Send by SMTP with ``smtp-source``, over connections that stay open."""
        return clients.run("programs.source", self.port, count, connections, shape, on_progress=on_progress)

    def open_smtp(self) -> None:
        """Start the part that accepts."""
        self.open()

    def shut_smtp(self) -> None:
        """Stop all of it."""
        self.shut()

    def submit(
        self, clients: Clients, first: int, count: int, connections: int, on_progress: Progress = lambda _: None
    ) -> dict[str, Any]:
        """Submit messages by the client that submits to ours, without a login."""
        return clients.run("programs.submit", self.port, first, count, connections, on_progress=on_progress)

    def own(self) -> list[int]:
        """Return the process id of its master."""
        if (pid := self._sandbox.pid("master")) is None:
            raise BenchError(f"Postfix died:\n{self.log()}")
        return [pid]

    def log(self) -> str:
        """Return the end of its log."""
        paths = [self._folder / "master.log", self._folder / "mail.log"]
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in paths if path.exists())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shut()
        self._sandbox.close()

    def _prepare(self) -> None:
        self._folder.chmod(0o755)  # its processes run as another user
        queue = self._folder / "queue"
        for folder in (self._folder / "etc", queue, queue / "pid"):
            folder.mkdir()
        for folder in (self._folder / "data", *(queue / name for name in QUEUES)):
            _make(folder, 0o700, "root")
        _make(queue / "public", 0o710, GROUP)
        _make(queue / "maildrop", 0o730, GROUP)

    def _make_fifo(self) -> None:
        path = self._folder / "queue" / "public" / "qmgr"
        os.mkfifo(path, 0o600)
        shutil.chown(path, USER)
        # Without any reader of the FIFO, cleanup would log a warning for each message.
        self._fifo = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def _start(self, more: str) -> None:
        (self._folder / "etc" / "master.cf").write_text(_SERVICES.format(port=self.port) + more)
        self._sandbox.spawn("master", self._argv, {"PATH": os.environ["PATH"]})
        try:
            self._sandbox.wait_until("master", self._answers)
        except RuntimeError as error:
            raise BenchError(f"{error}\n{self.log()}") from error

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def check() -> None:
    """Raise :class:`tests.servers.install.Missing` if Postfix cannot run on this machine."""
    if os.geteuid():
        raise Missing("Postfix's master runs only as root")
    postfix.program("smtp-source")
    daemons = postfix.default("daemon_directory")
    if not os.access(f"{daemons}/master", os.X_OK):
        raise Missing(f"there is no master in {daemons}")


def _make(folder: Path, mode: int, group: str) -> None:
    folder.mkdir()
    folder.chmod(mode)
    shutil.chown(folder, USER, group)
