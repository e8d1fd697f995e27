"""Real servers on loopback for tests:

SMTP peers that misbehave at any phase, a certificate authority, a name server.

A `Peer` is a plain thread-per-connection SMTP server. What it does at a phase is a `Behaviour`: a
function of the `Dialogue`, or the bytes to answer. Everything it saw is kept: `commands`,
`messages`, `connections`.
"""

import base64
import contextlib
import datetime
import hmac
import ipaddress
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rrset
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mailbbgun.smtp.endpoint import Timeouts
from tests.waiting import PATIENCE

Behaviour = "bytes | Callable[[Dialogue], None]"
PATIENT = Timeouts(
    **dict.fromkeys(
        ("connect", "banner", "ehlo", "tls", "auth", "mail", "rcpt", "data", "body", "dot", "rset", "quit"), PATIENCE
    )
)
EXTENSIONS = ("PIPELINING", "8BITMIME", "SIZE 10000000", "SMTPUTF8")


@dataclass
class Received:
    """A message a peer took: raw is what came between 354 and the dot, still dot-stuffed."""

    mail_from: str
    recipients: list[str]
    raw: bytes


class Gone(Exception):
    """The dialogue is over."""


# -- behaviours


def hang_up(dialogue: "Dialogue") -> None:
    """Closes in good order."""
    raise Gone


def reset(dialogue: "Dialogue") -> None:
    """Closes with RST, a little later: the client's connect() shall have returned."""
    time.sleep(0.02)
    dialogue.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise Gone


def silent(dialogue: "Dialogue") -> None:
    """Answers nothing and holds the line until the client gives up."""
    with contextlib.suppress(OSError):
        while dialogue.socket.recv(65536):
            pass
    raise Gone


def half_a_line(dialogue: "Dialogue") -> None:
    dialogue.say(b"250 hal")
    silent(dialogue)


def drip(dialogue: "Dialogue") -> None:
    """One octet each 20 ms, for ever."""
    with contextlib.suppress(OSError):
        dialogue.say(b"250-")
        while True:
            dialogue.say(b"a")
            time.sleep(0.02)
    raise Gone


def endless(dialogue: "Dialogue") -> None:
    """Continuation lines as fast as they are taken."""
    block = (b"250-" + b"A" * 500 + b"\r\n") * 200
    with contextlib.suppress(OSError):
        while True:
            dialogue.say(block)
    raise Gone


def endless_line(dialogue: "Dialogue") -> None:
    """A line that never ends, as fast as it is taken."""
    with contextlib.suppress(OSError):
        dialogue.say(b"250 ")
        while True:
            dialogue.say(b"A" * 65536)
    raise Gone


def late(seconds: float, answer: bytes) -> Callable[["Dialogue"], None]:
    """`answer` after `seconds`."""

    def behave(dialogue: "Dialogue") -> None:
        time.sleep(seconds)
        dialogue.say(answer)

    return behave


def then_close(answer: bytes) -> Callable[["Dialogue"], None]:
    """`answer`, then the connection is closed."""

    def behave(dialogue: "Dialogue") -> None:
        dialogue.say(answer)
        raise Gone

    return behave


def only(mechanism: str, answer: bytes, hangs_up: bool = False) -> Callable[["Dialogue"], None]:
    """At AUTH:

    `answer` to every mechanism but one; with `hangs_up` the connection is closed after it.
    """

    def behave(dialogue: "Dialogue") -> None:
        if dialogue.command.split()[1] == mechanism.encode():
            dialogue.normal(dialogue)
        else:
            dialogue.say(answer)
            if hangs_up:
                raise Gone

    return behave


def in_turn(*behaviours: "bytes | Callable[[Dialogue], None] | None") -> Callable[["Dialogue"], None]:
    """Each call the next behaviour, the last one for ever; None is the normal answer."""
    left = list(behaviours)

    def behave(dialogue: "Dialogue") -> None:
        chosen = left.pop(0) if len(left) > 1 else left[0]
        dialogue.do(chosen if chosen is not None else dialogue.normal)

    return behave


# -- the server


@dataclass
class Peer:
    """An SMTP server on `host`:`port`; use as a context manager.

    `at` maps phases (banner, ehlo, helo, starttls, tls, auth, mail, rcpt, data, body, dot, rset,
    quit) to behaviours. `rcpt` answers by address and wins over `at["rcpt"]`. `tls` is a server
    context: with `implicit` from the first byte, else STARTTLS is offered. `users` maps names to
    passwords; `mechanisms` is what AUTH offers. `auth_required` refuses mail without AUTH;
    `auth_in_clear=False` offers and takes AUTH only under TLS.
    """

    at: Mapping[str, "bytes | Callable[[Dialogue], None]"] = field(default_factory=dict)
    extensions: Sequence[str] = EXTENSIONS
    rcpt: Callable[[str], bytes] | None = None
    tls: ssl.SSLContext | None = None
    implicit: bool = False
    users: Mapping[str, str] = field(default_factory=dict)
    mechanisms: str = "PLAIN LOGIN CRAM-MD5"
    auth_required: bool = False
    auth_in_clear: bool = True
    host: str = "127.0.0.1"
    port: int = 0
    messages: list[Received] = field(default_factory=list)
    commands: list[bytes] = field(default_factory=list)
    connections: int = 0

    def took(self, user: str | None, message: Received) -> None:
        """A message is here, from `user` if authenticated; the answer to its dot has not been given
        yet.
        """
        self.messages.append(message)

    def __enter__(self) -> "Peer":
        self._listener = socket.create_server((self.host, self.port), backlog=50)
        self.port = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)

    def _start(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        self._open.add(connection)
        dialogue = Dialogue(self, connection)
        try:
            dialogue.run()
        except (Gone, OSError):
            pass  # the client or the script ended it
        finally:
            self._open.discard(connection)
            dialogue.socket.close()


class Dialogue:
    """One connection of a `Peer`."""

    def __init__(self, peer: Peer, connection: socket.socket) -> None:
        self.peer = peer
        self.socket: socket.socket = connection
        self.buffer = b""
        self.encrypted = False
        self.normal: Callable[[Dialogue], None] = hang_up
        self.command = b""
        self.user: str | None = None
        self._clear()

    def say(self, answer: bytes) -> None:
        self.socket.sendall(answer)

    def do(self, behaviour: "bytes | Callable[[Dialogue], None]") -> None:
        if isinstance(behaviour, bytes):
            self.say(behaviour)
        else:
            behaviour(self)

    def run(self) -> None:
        if self.peer.implicit:
            self._handshake()
        self._phase("banner", lambda _: self.say(b"220 peer.test ESMTP\r\n"))
        while True:
            self.command = self._line()
            self.peer.commands.append(self.command)
            verb = self.command.split(b" ")[0].split(b":")[0].lower().decode("ascii", "replace")
            step = getattr(self, f"_{verb}", None)
            self._phase(verb, step if step else lambda _: self.say(b"500 5.5.2 what?\r\n"))

    def _phase(self, phase: str, normal: "Callable[[Dialogue], None]") -> None:
        self.normal = normal
        self.do(self.peer.at.get(phase, normal))

    def _fill(self) -> None:
        more = self.socket.recv(65536)
        if not more:
            raise Gone
        self.buffer += more

    def _line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            self._fill()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def _clear(self) -> None:
        self.mail_from: str | None = None
        self.recipients: list[str] = []

    def _ehlo(self, _: object) -> None:
        words = ["peer.test", *self.peer.extensions]
        if self.peer.tls and not self.encrypted:
            words.append("STARTTLS")
        if self.peer.users and (self.encrypted or self.peer.auth_in_clear):
            words.append(f"AUTH {self.peer.mechanisms}")
        lines = [f"250{' ' if word is words[-1] else '-'}{word}\r\n" for word in words]
        self.say("".join(lines).encode())

    def _helo(self, _: object) -> None:
        self.say(b"250 peer.test\r\n")

    def _starttls(self, _: object) -> None:
        self.say(b"220 2.0.0 go ahead\r\n")
        self._handshake()

    def _handshake(self) -> None:
        if "tls" in self.peer.at:
            self.do(self.peer.at["tls"])
        assert self.peer.tls is not None
        plain = self.socket
        if not plain.recv(1, socket.MSG_PEEK):  # wrap_socket leaks the socket of a client that is gone
            raise Gone
        self.socket = self.peer.tls.wrap_socket(plain, server_side=True)
        self.encrypted = True
        self.buffer = b""
        self.peer._open.discard(plain)
        self.peer._open.add(self.socket)

    def _auth(self, _: object) -> None:
        if not self.encrypted and not self.peer.auth_in_clear:
            self.say(b"538 5.7.11 not in clear\r\n")
            return
        words = self.command.split()
        user, good = {b"PLAIN": self._plain, b"LOGIN": self._login, b"CRAM-MD5": self._cram}[words[1]](words[2:])
        self.user = user if good else None
        self.say(b"235 2.7.0 welcome\r\n" if good else b"535 5.7.8 wrong\r\n")

    def _plain(self, words: list[bytes]) -> tuple[str, bool]:
        if not words:
            self.say(b"334 \r\n")
        _, user, password = base64.b64decode(words[0] if words else self._line()).decode().split("\0")
        return user, self.peer.users.get(user) == password

    def _login(self, words: list[bytes]) -> tuple[str, bool]:
        answers = [base64.b64decode(word).decode() for word in words]  # some say the name at once
        for prompt in (b"Username:", b"Password:")[len(answers) :]:
            self.say(b"334 " + base64.b64encode(prompt) + b"\r\n")
            answers.append(base64.b64decode(self._line()).decode())
        return answers[0], self.peer.users.get(answers[0]) == answers[1]

    def _cram(self, words: list[bytes]) -> tuple[str, bool]:
        challenge = b"<1.2@peer.test>"
        self.say(b"334 " + base64.b64encode(challenge) + b"\r\n")
        user, digest = base64.b64decode(self._line()).decode().split(" ")
        expected = hmac.new(self.peer.users.get(user, "\0").encode(), challenge, "md5").hexdigest()
        return user, digest == expected

    def _mail(self, _: object) -> None:
        if self.peer.auth_required and self.user is None:
            self.say(b"530 5.7.0 authentication required\r\n")
            return
        if self.mail_from is not None:
            self.say(b"503 5.5.1 nested MAIL\r\n")
            return
        self.mail_from = self.command.split(b"<")[1].split(b">")[0].decode()
        self.say(b"250 2.1.0 ok\r\n")

    def _rcpt(self, _: object) -> None:
        address = self.command.split(b"<")[1].split(b">")[0].decode()
        answer = self.peer.rcpt(address) if self.peer.rcpt else b"250 2.1.5 ok\r\n"
        if self.mail_from is None:
            answer = b"503 5.5.1 MAIL first\r\n"
        if answer.startswith(b"250"):
            self.recipients.append(address)
        self.say(answer)

    def _data(self, _: object) -> None:
        if not self.recipients:
            self.say(b"554 5.5.1 no valid recipients\r\n")
            return
        self.say(b"354 go on\r\n")
        self.take_message()

    def take_message(self) -> None:
        """From 354 to the answer to the dot."""
        if "body" in self.peer.at:
            self.do(self.peer.at["body"])
        seen, searched = bytearray(b"\r\n" + self.buffer), 0
        while (end := seen.find(b"\r\n.\r\n", searched)) < 0:
            searched = max(0, len(seen) - 4)
            more = self.socket.recv(1 << 18)
            if not more:
                raise Gone
            seen += more
        self.buffer = bytes(seen[end + 5 :])
        self.peer.took(self.user, Received(self.mail_from or "", self.recipients, bytes(seen[2 : end + 2])))
        self._clear()
        self._phase("dot", lambda _: self.say(b"250 2.0.0 queued\r\n"))

    def _rset(self, _: object) -> None:
        self._clear()
        self.say(b"250 2.0.0 flushed\r\n")

    def _quit(self, _: object) -> None:
        self.say(b"221 2.0.0 bye\r\n")
        raise Gone


# -- certificates


class Authority:
    """A certificate authority in `folder`; `ca_file` is its certificate in PEM."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.ca_file = str(folder / "ca.pem")
        certificate = self._sign(self._name, self._key.public_key(), [], self._key, self._name, False, ca=True)
        Path(self.ca_file).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, *hosts: str, expired: bool = False, self_signed: bool = False) -> Path:
        """A file with a certificate for `hosts` (names or IP addresses) and its key, both in PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:64])])
        signer, issuer = (key, subject) if self_signed else (self._key, self._name)
        certificate = self._sign(subject, key.public_key(), hosts, signer, issuer, expired, ca=False)
        file = self._folder / f"{hosts[0][:64]}-{expired}-{self_signed}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        return file

    def server(self, *hosts: str, expired: bool = False, self_signed: bool = False) -> ssl.SSLContext:
        """The TLS context of a server with a certificate for `hosts`."""
        return server_context(self.issue(*hosts, expired=expired, self_signed=self_signed))

    @staticmethod
    def _sign(
        subject: x509.Name,
        public: ec.EllipticCurvePublicKey,
        hosts: Sequence[str],
        signer: ec.EllipticCurvePrivateKey,
        issuer: x509.Name,
        expired: bool,
        ca: bool,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        until = now - datetime.timedelta(days=1) if expired else now + datetime.timedelta(days=1)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=2))
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if hosts:
            names = [_general_name(host) for host in hosts]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(signer, hashes.SHA256())


def server_context(file: Path) -> ssl.SSLContext:
    """The TLS context of a server with what `Authority.issue` wrote."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


# -- DNS


class NameServer:
    """A small authoritative server on UDP and TCP of 127.0.0.1:`port`; use as a context manager.

    `zone` maps names to {kind: [data]}; a name not in it does not exist. Instead of the mapping a
    name may say "SERVFAIL", "REFUSED", "silent" (no answer), or "truncated" with the records in
    `zone[name + "/tcp"]`. "There is none" comes with an SOA record; for a name that says "NXDOMAIN"
    or "NOERROR" without, as from a broken resolver. `asked` is the list of (name, kind) seen.
    """

    def __init__(self, zone: Mapping[str, "Mapping[str, Sequence[str]] | str"], ttl: int = 60) -> None:
        self.zone = dict(zone)
        self.ttl = ttl
        self.asked: list[tuple[str, str]] = []

    def __enter__(self) -> "NameServer":
        while True:
            self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._udp.bind(("127.0.0.1", 0))
            self.port: int = self._udp.getsockname()[1]
            try:
                self._tcp = socket.create_server(("127.0.0.1", self.port))
                break
            except OSError:
                self._udp.close()  # the port is taken on TCP: try another pair
        self._done = False
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._serve_udp, self._serve_tcp)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done = True
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", ("127.0.0.1", self.port))
        with contextlib.suppress(OSError):
            self._tcp.shutdown(socket.SHUT_RDWR)
        self._tcp.close()
        for thread in self._threads:
            thread.join(PATIENCE)
        self._udp.close()

    def _serve_udp(self) -> None:
        while True:
            wire, sender = self._udp.recvfrom(65535)
            if self._done:
                return
            answer = self._answer(wire, "")
            if answer is not None:
                self._udp.sendto(answer.to_wire(), sender)

    def _serve_tcp(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._tcp.accept()
                with connection, contextlib.suppress(OSError, EOFError):
                    size = struct.unpack("!H", connection.recv(2))[0]
                    answer = self._answer(connection.recv(size), "/tcp")
                    if answer is not None:
                        wire = answer.to_wire()
                        connection.sendall(struct.pack("!H", len(wire)) + wire)

    def _answer(self, wire: bytes, transport: str) -> dns.message.Message | None:
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name, kind = str(question.name)[:-1].lower(), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        found = self.zone.get(name + transport, self.zone.get(name))
        if found == "silent":
            return None
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.AA | dns.flags.RA
        if found is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
            answer.authority.append(self._soa())
        elif found == "truncated":
            answer.flags |= dns.flags.TC
        elif isinstance(found, str):
            answer.set_rcode(dns.rcode.from_text(found))
        elif found.get(kind):
            answer.answer.append(dns.rrset.from_text(question.name, self.ttl, "IN", kind, *found[kind]))
        else:
            answer.authority.append(self._soa())
        return answer

    def _soa(self) -> dns.rrset.RRset:
        return dns.rrset.from_text(".", self.ttl, "IN", "SOA", "ns.test. hostmaster.test. 1 7200 900 1209600 60")
