"""Talks nonsense to a running SMTP door, and looks whether it stays well: python -m tests.smtpd.fuzz --minutes 10.

Some clients send what ``grammar`` draws. Beside them one client submits mail as it should be, and must
always be answered. The door must not crash or hang, and not grow. Every mail that got 250 must be stored,
none may be stored with a bare CR, a bare LF or a NUL, and a stranger's mail must only reach local domains.
"""

import contextlib
import itertools
import re
import smtplib
import socket
import ssl
import statistics
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import UUID

import click

from mailbbgun.messages.models import Delivery, Message
from mailbbgun.services import build
from mailbbgun.settings.load import load
from mailbbgun.smtpd.conversation.data import is_bare
from tests.chaos.trend import Bound, Trend, table, trends
from tests.flow.smtp_service import SmtpService
from tests.servers.process import free_port
from tests.smtp.authority import Authority
from tests.smtp.name_server import NameServer
from tests.smtpd.gauges import DoorFigures
from tests.smtpd.grammar import End, Grammar, Plan, Way

MB = 2**20
#: Connections at once.
CLIENTS = 64
#: Addresses that strangers come from, because each may only come so often.
SOURCES = [f"127.0.0.{number}" for number in range(2, 100)]
#: How long a client waits for the reply to a step. Some steps have none.
REPLY_SECONDS = 0.2
#: How long the door may take for an answer. It must be less than its own limits for a silent client, which
#: would end a session that hangs.
HANG_SECONDS = 150.0
#: What ends a message, a line, and at last the session, wherever in it a client is.
CLOSING = b"\r\n.\r\n" + b"QUIT\r\n" * 3

BOUNDS = {"memory (MB)": Bound(growth=20), "files": Bound(growth=CLIENTS, most=400), "threads": Bound(growth=4)}

#: What no line of the log has: an error of ours, or what asyncio says of replies to those who have gone.
_NEVER_SAID = re.compile(r" unexpected|^Traceback|SSL connection is closed|socket\.send\(\) raised")
_REPLIES = re.compile(rb"(?:[2-5]\d\d(?:-[ -~]*\r\n[2-5]\d\d)*(?: [ -~]*)?\r\n)*")
_STORED = re.compile(rb"^250 2\.0\.0 Stored as ([0-9a-f -]{36,})\r$", re.MULTILINE)


class Fuzzing:
    """One run against one door."""

    def __init__(self, door: SmtpService, mx_port: int, tls_port: int) -> None:
        self.door, self._ports = door, {Way.MX: mx_port, Way.TLS: tls_port, Way.NO_TLS: tls_port}
        self._context = ssl.create_default_context(cafile=door.ca_file)
        self._sources = itertools.cycle(SOURCES)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.faults: list[str] = []
        self.codes: Counter[str] = Counter()
        self.sent = self.heard = self.sessions = 0
        self.stored: set[UUID] = set()
        self.waits: list[float] = []  # seconds that each mail of the good client took
        self.times: list[float] = []
        self.samples: list[dict[str, float]] = []

    def sessions_of(self, seeds: Iterator[int], seconds: float = float("inf")) -> None:
        """Run sessions at the same time until the seeds, or the seconds, are over."""
        ends = time.monotonic() + seconds
        lock = threading.Lock()

        def client() -> None:
            while not self.faults and time.monotonic() < ends:
                with lock:
                    if (seed := next(seeds, None)) is None:
                        return
                self._session(seed)

        with ThreadPoolExecutor(CLIENTS) as pool:
            for future in [pool.submit(client) for _ in range(CLIENTS)]:
                future.result()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Beside the block, submit mail as it should be, and measure the door."""
        with ThreadPoolExecutor(2) as pool:
            work = [pool.submit(self._submit_well), pool.submit(self._measure)]
            try:
                yield
            finally:
                self._stop.set()
            for future in work:
                future.result()

    # -- the clients

    def _session(self, seed: int) -> None:
        plan = Grammar(seed, self.door.smtp_key).plan()
        heard = bytearray()
        try:
            with self._connected(plan.way) as link:
                self._talk(link, plan, heard)
                self._end(link, plan, heard)
        except TimeoutError:
            self._fault(f"seed {seed}: {plan.way} was not answered; it heard {bytes(heard[-200:])!r}")
        except (OSError, ValueError):  # the door hung up, in the midst of TLS perhaps
            pass
        whole = bytes(heard[: heard.rfind(b"\r\n") + 2])
        if not _REPLIES.fullmatch(whole):
            self._fault(f"seed {seed}: {plan.way} heard {whole[-300:]!r}")
        with self._lock:
            self.sessions += 1
            self.heard += len(heard)
            self.codes.update(line[:3].decode() for line in whole.split(b"\r\n") if line[3:4] == b" ")
            for found in _STORED.findall(whole):
                self.stored.update(UUID(one.decode()) for one in found.split())

    @contextmanager
    def _connected(self, way: Way) -> Iterator[socket.socket]:
        port = self._ports.get(way, self.door.smtp_port)
        source = (next(self._sources), 0)
        with socket.create_connection(("127.0.0.1", port), HANG_SECONDS, source) as plain:
            if way in (Way.STARTTLS, Way.NO_STARTTLS):
                for line in (b"", b"EHLO x\r\n", b"STARTTLS\r\n"):
                    plain.sendall(line)
                    if not plain.recv(4096).startswith(b"2"):
                        raise OSError("the door has hung up")
            if way in (Way.STARTTLS, Way.TLS):
                with self._context.wrap_socket(plain, server_hostname="127.0.0.1") as link:
                    yield link
            else:
                yield plain

    def _talk(self, link: socket.socket, plan: Plan, heard: bytearray) -> None:
        if not plan.sizes:
            for step in plan.steps:
                self._send(link, step)
                link.settimeout(REPLY_SECONDS)
                with contextlib.suppress(TimeoutError):
                    heard += link.recv(65_536)
                link.settimeout(HANG_SECONDS)
            return
        whole, sizes = b"".join(plan.steps), itertools.cycle(plan.sizes)
        if min(plan.sizes) == 1:
            whole = whole[:2000]  # in single octets, more takes too long
        while whole:
            size = next(sizes)
            self._send(link, whole[:size])
            whole = whole[size:]

    def _send(self, link: socket.socket, octets: bytes) -> None:
        link.sendall(octets)
        self.sent += len(octets)

    def _end(self, link: socket.socket, plan: Plan, heard: bytearray) -> None:
        if plan.end is End.RESET:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif plan.end is End.NO_MORE:
            if isinstance(link, ssl.SSLSocket):  # there is no half of TLS to close
                self._send(link, CLOSING)
            else:
                link.shutdown(socket.SHUT_WR)
            while piece := link.recv(65_536):
                heard += piece

    def _submit_well(self) -> None:
        """Submit mail until the end; each must be accepted."""
        while not self._stop.wait(0.1) and not self.faults:
            begin = time.monotonic()
            try:
                with self.door.smtp() as client:
                    mail = f"From: shop@example.com\r\nSubject: good {len(self.waits)}\r\n\r\nHello\r\n"
                    client.sendmail("shop@example.com", ["ann@example.com"], mail)
            except (OSError, smtplib.SMTPException) as error:
                self._fault(f"a client that does all right was told: {error!r}")
            self.waits.append(time.monotonic() - begin)

    def _measure(self) -> None:
        begin = time.monotonic()
        while not self._stop.wait(0.5) and not self.faults:
            if self.door.processes["smtpd"].poll() is not None:
                return self._fault("the door has ended")
            figures = DoorFigures(self.door)
            self.times.append(time.monotonic() - begin)
            its = {"memory (MB)": figures.memory / MB, "files": figures.files, "threads": figures.threads}
            self.samples.append({name: float(value) for name, value in its.items()})

    def _fault(self, text: str) -> None:
        with self._lock:
            self.faults.append(text)

    # -- afterwards

    def check(self) -> None:
        """Add what was wrong with the door, and with what it stored."""
        said = (self.door.var / "smtpd.out").read_text()
        self.faults += [line for line in said.splitlines() if _NEVER_SAID.search(line)]
        services = build(load(self.door.environment))
        with services.db.read() as session:
            ids = {one for (one,) in session.query(Message.id)}
            good = session.query(Message).filter(Message.subject.startswith("good ")).count()
            bare = [one for one, raw in session.query(Message.id, Message.raw).yield_per(100) if is_bare(raw or b"")]
            came = session.query(Delivery.address).join(Message, Message.id == Delivery.message_id)
            relayed = {to for (to,) in came.filter(Message.received) if not to.lower().endswith("@a.test")}
        services.close()
        wrong = {
            "mails got 250 and are not stored": self.stored - ids,
            "are stored with a bare CR, LF or NUL": bare,
            "recipients of strangers are not local": relayed,
        }
        self.faults += [f"{len(found)} {what}: {[*found][:5]}" for what, found in wrong.items() if found]
        if good != len(self.waits):
            self.faults.append(f"{len(self.waits)} good mails were accepted, and {good} are stored")

    def grown(self) -> dict[str, Trend]:
        """Return how the door's memory, files and threads went."""
        return trends(self.times, self.samples, BOUNDS)

    def __str__(self) -> str:
        told = f"{self.sessions} sessions, {self.sent} octets sent, {self.heard} heard, {len(self.stored)} mails stored"
        codes = ", ".join(f"{code} × {count}" for code, count in sorted(self.codes.items()))
        usual, most = statistics.median(self.waits), max(self.waits)
        return f"{told}\n{codes}\n{len(self.waits)} good mails, median {usual:.3f} s, most {most:.3f} s"


@contextmanager
def fuzzing(folder: Path) -> Iterator[Fuzzing]:
    """Run a door with all its ports, on SQLite, with one local domain."""
    with ExitStack() as stack:
        dns = stack.enter_context(NameServer({}))
        settings = load({"MAILBBGUN_VAR": str(folder / "var"), "MAILBBGUN_HOSTNAME": "mail.example.com"})
        mx_port, tls_port = free_port(), free_port()
        ports = {"MX_LISTEN_PORT": mx_port, "SMTPD_TLS_PORT": tls_port}
        more = {"UNAUTHORIZED_PER_MINUTE": 0, "DNS_SERVERS": f"127.0.0.1:{dns.port}", "LOG_LEVEL": "WARNING"}
        door = stack.enter_context(SmtpService(settings, authority=Authority(folder), **ports, **more))
        door.http.post(f"{door.url}/domains", json={"name": "a.test", "local": True}).raise_for_status()
        door.http.post(f"{door.url}/mailboxes", json={"address": "ann@a.test"}).raise_for_status()
        yield Fuzzing(door, mx_port, tls_port)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--minutes", type=click.FloatRange(0.1, 600), default=10.0, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the first session.")
def main(minutes: float, seed: int) -> None:
    """Talk nonsense to an SMTP door of its own for so long. Exit code 1 if it was not well."""
    with tempfile.TemporaryDirectory() as folder, fuzzing(Path(folder)) as run:
        with run.watched():
            run.sessions_of(itertools.count(seed), minutes * 60)
        run.check()
        click.echo(f"{run}\n{table(run.grown())}")
        bad = [f"{name} grew" for name, trend in run.grown().items() if not trend.well]
        if not (faults := [*run.faults, *bad]):
            (Path(folder) / "var" / "smtpd.out").unlink()  # nobody needs it
        for fault in faults:
            click.echo(fault, err=True)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
