"""A name server on loopback for tests."""

import contextlib
import socket
import struct
import threading
from collections.abc import Mapping, Sequence

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rrset

from tests.waiting import PATIENCE


class NameServer:
    """A small authoritative server on UDP and TCP of 127.0.0.1:`port`; use as a context manager.

    `zone` maps names to {kind: [data]}; other names do not exist. In place of the mapping a name
    may have "SERVFAIL", "REFUSED", "silent" (no answer), or "truncated", with the records in
    `zone[name + "/tcp"]`. "There is none" comes with an SOA record. With "NXDOMAIN" or "NOERROR" it
    comes without, as from a broken resolver. `asked` lists the (name, kind) of each query.
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
