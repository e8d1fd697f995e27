"""The sink for machines without ``smtp-sink``: takes everything, keeps nothing: ``python -m bench.asyncio_sink PORT``.

Counts as ``smtp-sink -c`` does: ``sess=1 quit=0 mesg=17\\r`` on standard output, after every message.
"""

import asyncio
import os
import sys
from typing import ClassVar

_ANSWERS = {
    b"EHLO": b"250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n",
    b"DATA": b"354 go on\r\n",
    b"QUIT": b"221 bye\r\n",
}
_OK = b"250 2.0.0 ok\r\n"
_END = b"\r\n.\r\n"


class Sink(asyncio.Protocol):
    """One connection; pipelining is understood, and one write answers all that came in one read."""

    sessions: ClassVar[int] = 0
    messages: ClassVar[int] = 0

    def __init__(self) -> None:
        self._buffer = b""
        self._data = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        Sink.sessions += 1
        transport.write(b"220 sink.test ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        """Answer all that is whole."""
        self._buffer += data
        answers = []
        while True:
            before, end, rest = self._buffer.partition(_END if self._data else b"\r\n")
            if not end:
                break
            self._buffer = rest
            verb = b"" if self._data else before[:4].upper()
            if self._data:
                self._count()
            self._data = verb == b"DATA"
            if self._data:
                self._buffer = b"\r\n" + rest  # so that a message that is only a dot ends too
            answers.append(_ANSWERS.get(verb, _OK))
        if answers:
            self._transport.write(b"".join(answers))
            if answers[-1] is _ANSWERS[b"QUIT"]:
                self._transport.close()

    def _count(self) -> None:
        Sink.messages += 1
        os.write(1, b"sess=%d quit=0 mesg=%d\r" % (Sink.sessions, Sink.messages))


async def serve(port: int) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", port, backlog=1000)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
