"""An SMTP server that accepts every message and keeps none, for machines without ``smtp-sink``.

Run as ``python -m bench.programs.asyncio_sink PORT [DELAY]``. With a delay it is the slow sink: it
answers each command, and each end of a message, only after DELAY seconds. It starts on the next
command when it has answered the one before, also when a client pipelines them. (``smtp-sink -W``
does the same, but only in whole seconds.) The greeting is not delayed.

After every message it prints its counters like ``smtp-sink -c``: ``sess=1 quit=0 mesg=17\\r``.
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
    """One connection.

    It supports pipelining: without a delay, one write answers all commands of a read.
    """

    sessions: ClassVar[int] = 0
    messages: ClassVar[int] = 0
    delay: ClassVar[float] = 0.0

    def __init__(self) -> None:
        self._buffer = b""
        self._data = False
        self._busy_until = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the greeting."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        Sink.sessions += 1
        transport.write(b"220 sink.test ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        """Answer every complete command and every complete message."""
        self._buffer += data
        answers: list[bytes] = []
        messages = 0
        while True:
            before, end, rest = self._buffer.partition(_END if self._data else b"\r\n")
            if not end:
                break
            self._buffer = rest
            verb = b"" if self._data else before[:4].upper()
            answers.append(_ANSWERS.get(verb, _OK))
            messages += self._data
            if self.delay:
                self._answer_later(answers.pop(), int(self._data))
            self._data = verb == b"DATA"
            if self._data:
                self._buffer = b"\r\n" + rest  # the end of a message that is only a dot must match _END, too
        if answers:
            self._answer(b"".join(answers), messages)

    def _answer_later(self, answer: bytes, messages: int) -> None:
        loop = asyncio.get_running_loop()
        self._busy_until = max(loop.time(), self._busy_until) + self.delay
        loop.call_at(self._busy_until, self._answer, answer, messages)

    def _answer(self, answers: bytes, messages: int) -> None:
        for _ in range(messages):
            Sink.messages += 1
            os.write(1, b"sess=%d quit=0 mesg=%d\r" % (Sink.sessions, Sink.messages))
        self._transport.write(answers)
        if answers.endswith(_ANSWERS[b"QUIT"]):
            self._transport.close()


async def serve(port: int, delay: float = 0.0) -> None:
    """Serve until the process is killed."""
    Sink.delay = delay
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", port, backlog=1000)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2] if len(sys.argv) > 2 else 0)))
