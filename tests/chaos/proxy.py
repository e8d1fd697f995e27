"""A TCP proxy that mistreats its connections: slow, cut, silent in one direction or in both."""

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self

from tests.servers.process import free_port
from tests.waiting import PATIENCE

Direction = Literal["out", "back"]  # from client to server, from server to client
BOTH: tuple[Direction, ...] = ("out", "back")
CHUNK = 65_536
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST


class _Link:
    """A client's connection to the proxy, and the proxy's connection to the server."""

    def __init__(self) -> None:
        self.writers: dict[Direction, asyncio.StreamWriter] = {}  # direction → where to write
        self.passed = 0  # bytes, both ways
        self.tail = b""  # the end of what the client sent last
        self.doomed = False  # the next answer is dropped and the connection reset

    def cut(self) -> None:
        for writer in self.writers.values():
            with_socket = writer.get_extra_info("socket")
            if with_socket is not None and not writer.transport.is_closing():
                with_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()


class Proxy:
    """Listens on ``port`` and forwards to ``upstream``, both on 127.0.0.1.

    Its attributes may be changed at any time, from any thread.
    """

    def __init__(self, upstream: int, dice: random.Random | None = None) -> None:
        self.port = free_port()
        self.upstream = upstream
        self.latency = 0.0  # seconds, each way, for every chunk
        self.jitter = 0.0  # seconds more, at random
        self.rate = 0.0  # bytes per second; 0 means unlimited
        # Directions in which nothing arrives, although nothing is closed.
        self.silent: frozenset[Direction] = frozenset()
        self.reset_at = 0  # bytes after which a connection is reset; 0 means never
        self.cuts = 0  # replies that were dropped
        self._dice = dice or random.Random()
        self._pattern: bytes | None = None
        self._wanted = self._skip = 0
        self._links: set[_Link] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def cut_replies_to(self, pattern: bytes, times: int, skip: int = 0) -> None:
        """Drop the reply to data that contains ``pattern``, and reset the connection.

        Does so ``times`` times, after ``skip`` replies that pass.
        """
        self._pattern, self._wanted, self._skip = pattern, times, skip

    def black_hole(self, *directions: Direction) -> None:
        """Hold back all data, in these directions or both, until :meth:`heal`.

        No connection is closed.
        """
        self.silent = frozenset(directions or BOTH)

    def heal(self) -> None:
        """Forward everything normally from now on."""
        self.latency = self.jitter = self.rate = 0.0
        self.silent, self.reset_at, self._pattern = frozenset(), 0, None

    def cut(self) -> None:
        """Reset every connection."""
        self._call(lambda: [link.cut() for link in list(self._links)])

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(PATIENCE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def _call(self, work: Callable[[], object]) -> None:
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (work(), done.set()))
        done.wait(PATIENCE)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=1000)

    async def _close(self) -> None:
        self._server.close()
        ours = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for link in list(self._links):
            link.cut()
        for task in ours:
            task.cancel()
        await asyncio.gather(*ours, return_exceptions=True)

    async def _serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        link = _Link()
        link.writers["back"] = to_client
        self._links.add(link)
        try:
            from_server, link.writers["out"] = await asyncio.open_connection("127.0.0.1", self.upstream)
            await asyncio.gather(self._pass(link, "out", from_client), self._pass(link, "back", from_server))
        except (OSError, asyncio.CancelledError):
            # One end is gone, so the other is cut. Or the proxy closes, and asyncio would print a
            # traceback for each task that ends as cancelled.
            pass
        finally:
            self._links.discard(link)
            link.cut()

    async def _pass(self, link: _Link, direction: Direction, reader: asyncio.StreamReader) -> None:
        writer = link.writers[direction]
        while data := await reader.read(CHUNK):
            wait = self.latency + self.jitter * self._dice.random() + (len(data) / self.rate if self.rate else 0.0)
            if wait:
                await asyncio.sleep(wait)
            while direction in self.silent:
                await asyncio.sleep(0.02)
            if direction == "out":
                self._listen_for(link, data)
            elif link.doomed:
                self.cuts += 1
                raise ConnectionResetError
            link.passed += len(data)
            if self.reset_at and link.passed >= self.reset_at:
                writer.write(data[: len(data) - (link.passed - self.reset_at)])
                raise ConnectionResetError
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    def _listen_for(self, link: _Link, data: bytes) -> None:
        pattern = self._pattern
        if pattern is None:
            return
        heard = link.tail + data
        link.tail = heard[-len(pattern) + 1 :]
        if pattern in heard and self._wanted:
            if self._skip:
                self._skip -= 1
            else:
                self._wanted -= 1
                link.doomed = True
