"""An HTTP server that takes every webhook request and keeps none.

Run as ``python -m bench.programs.receiver PORT [FILE]``. It answers 204 to each request and keeps connections
open; to a path that begins with ``/never`` it answers nothing. To the file it appends a line for each request: the
path, and the seconds between the event and its arrival.
"""

import asyncio
import json
import os
import re
import sys
import time
from datetime import datetime

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"


class Receiver(asyncio.Protocol):
    """One connection."""

    def __init__(self, arrivals: int | None) -> None:
        self._buffer, self._arrivals = bytearray(), arrivals

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, to answer by it."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request whose body is complete."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._buffer, 0, end + 2)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < whole:
                return
            request = bytes(self._buffer[:whole])
            del self._buffer[:whole]
            path = request.split(b" ", 2)[1].decode()
            if not path.startswith("/never"):
                self._transport.write(_ANSWER)
            if self._arrivals is not None:
                since = time.time() - datetime.fromisoformat(json.loads(request[end + 4 :])["timestamp"]).timestamp()
                os.write(self._arrivals, f"{path} {since}\n".encode())


async def main(port: int, file: str | None = None) -> None:
    """Serve until the process is ended."""
    arrivals = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if file else None
    server = await asyncio.get_running_loop().create_server(lambda: Receiver(arrivals), "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), *sys.argv[2:]))
