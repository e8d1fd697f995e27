"""A real SMTP server that takes mail: ``python -m tests.flow.sink PORT LOG``.

The local part of a recipient decides how it behaves:

- ``later-N-…``: refuse RCPT with 451, N times
- ``never-…``: refuse RCPT with 550
- ``lost-…``: take the message, then drop the connection without a reply, once
- ``slow-…``: reply to the dot after two seconds
- ``late-N-…``: reply to the dot after N seconds
- ``mute-…``: never reply to the dot
- ``hesitate-N-…``: reply to RCPT after N seconds
- ``kill-…``: at RCPT, kill the process at the other end with SIGKILL

Each message becomes a JSON line in LOG, written before the reply: envelope sender, recipients, Message-ID,
SHA-256 of the data, and the time. Each 451 becomes a line on standard output, with the time.
"""

import asyncio
import hashlib
import json
import os
import re
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import ClassVar

_ADDRESS = re.compile(rb"<([^>]*)>")
_MESSAGE_ID = re.compile(rb"^Message-ID:\s*(\S+)", re.IGNORECASE | re.MULTILINE)


class Sink(asyncio.Protocol):
    """One connection. Supports pipelining (RFC 2920)."""

    refusals: ClassVar[Counter[str]] = Counter()
    dropped: ClassVar[set[str]] = set()

    def __init__(self, log: int) -> None:
        self._log = log
        self._buffer = bytearray()
        self._looked_at = 0
        self._sender = ""
        self._recipients: list[str] = []
        self._data = False
        self._hesitating = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the banner."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(b"220 sink.test ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        """Answer each complete command; take the message at its dot."""
        self._buffer += data
        while not self._hesitating and (self._data or b"\r\n" in self._buffer):
            if self._data:
                # A large message comes in many pieces: look only at the new one.
                end = 0 if self._buffer.startswith(b".\r\n") else self._buffer.find(b"\r\n.\r\n", self._looked_at) + 2
                if end == 1:
                    self._looked_at = max(0, len(self._buffer) - 4)
                    return
                content, self._data, self._looked_at = bytes(self._buffer[:end]), False, 0
                del self._buffer[: end + 3]
                if self._take(content or b"\r\n"):
                    return
                continue
            line = bytes(self._buffer[: self._buffer.find(b"\r\n")])
            del self._buffer[: len(line) + 2]
            self._transport.write(self._answer(line))

    def _answer(self, line: bytes) -> bytes:
        verb = line[:4].upper()
        if verb == b"EHLO":
            return b"250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"
        if verb in (b"MAIL", b"RSET"):
            self._recipients = []
            self._sender = b"".join(_ADDRESS.findall(line)[:1]).decode()
        elif verb == b"RCPT":
            return self._recipient(_ADDRESS.findall(line)[0].decode())
        elif verb == b"DATA":
            if not self._recipients:
                return b"554 5.5.1 no valid recipients\r\n"
            self._data = True
            return b"354 go on\r\n"
        elif verb == b"QUIT":
            self._transport.close()
            return b"221 bye\r\n"
        return b"250 2.0.0 ok\r\n"

    def _recipient(self, address: str) -> bytes:
        kind, _, rest = address.partition("-")
        if kind == "never":
            return b"550 5.1.1 no such user here\r\n"
        if kind == "later" and self.refusals[address] < int(rest.partition("-")[0]):
            self.refusals[address] += 1
            print(f"refused {address} {time.time()}", flush=True)
            return b"451 4.7.1 greylisted\r\n"
        if kind == "kill":
            _kill_peer(self._transport)
        self._recipients.append(address)
        if kind == "hesitate":
            print(f"hesitates {address}", flush=True)
            self._hesitating = True
            asyncio.get_running_loop().call_later(float(rest.partition("-")[0]), self._go_on)
            return b""
        return b"250 2.1.5 ok\r\n"

    def _go_on(self) -> None:
        self._hesitating = False
        self._transport.write(b"250 2.1.5 ok, at last\r\n")
        self.data_received(b"")

    def _take(self, content: bytes) -> bool:
        """Log the message, then reply. Return whether the connection is dropped."""
        found = _MESSAGE_ID.search(content)
        line = {
            "from": self._sender,
            "to": self._recipients,
            "id": found[1].decode() if found else None,
            "sha": hashlib.sha256(content).hexdigest(),
            "at": time.time(),
        }
        os.write(self._log, json.dumps(line).encode() + b"\n")
        kinds = {address.partition("-")[0] for address in self._recipients}
        lost = [address for address in self._recipients if address.startswith("lost-") and address not in self.dropped]
        if lost:
            self.dropped.update(lost)
            self._transport.abort()
            return True
        answer = b"250 2.0.0 taken\r\n"
        if "mute" in kinds:
            return False
        if "slow" in kinds or "late" in kinds:
            seconds = [float(address.split("-")[1]) for address in self._recipients if address.startswith("late-")]
            asyncio.get_running_loop().call_later(max([2.0, *seconds]), self._transport.write, answer)
        else:
            self._transport.write(answer)
        return False


def _kill_peer(transport: asyncio.Transport) -> None:
    """Kill the process whose socket is at the other end of the connection."""
    ends = [f"0100007F:{transport.get_extra_info(name)[1]:04X}" for name in ("peername", "sockname")]
    inode = next(row.split()[9] for row in Path("/proc/net/tcp").read_text().splitlines() if row.split()[1:3] == ends)
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(link) == f"socket:[{inode}]":
                os.kill(int(link.parts[2]), signal.SIGKILL)
        except OSError:
            continue  # the process has just ended


async def _serve(port: int, path: str) -> None:
    log = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
    server = await asyncio.get_running_loop().create_server(lambda: Sink(log), "127.0.0.1", port, backlog=1000)
    print("listening", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[2]))
