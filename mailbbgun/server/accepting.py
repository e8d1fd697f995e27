"""Listening sockets become connections."""

import errno
from collections.abc import Sequence
from functools import partial
from typing import Any

from mailbbgun.server.clients import Clients
from mailbbgun.server.poller import READ, Poller

#: Connections to accept in a row before others have their turn.
_AT_ONCE = 8

_NO_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Doors:
    """Accepts the connections of listening sockets. Only for the poller's thread."""

    def __init__(self, poller: Poller, clients: Clients, listeners: Sequence[Any]) -> None:
        self._poller, self._clients = poller, clients
        self._open: list[Any] = []
        self._shut = list(listeners)

    def open(self) -> None:
        """Accept at all sockets: at the start, and now and then, because :meth:`_accept` may have shut one."""
        while self._shut:
            listener = self._shut.pop()
            self._open.append(listener)
            self._poller.watch(listener, READ, partial(self._accept, listener, listener.getsockname()))

    def shut(self) -> None:
        """Accept nothing more."""
        while self._open:
            self._shut_one(self._open[0])

    def _shut_one(self, listener: Any) -> None:
        self._open.remove(listener)
        self._shut.append(listener)
        self._poller.ignore(listener)

    def _accept(self, listener: Any, address: Any, _ready: int) -> None:
        """Accept connections of a socket that is ready; ``address`` is its own."""
        for _ in range(_AT_ONCE):
            try:
                accepted, client = listener.accept()
            except (BlockingIOError, InterruptedError):  # another process has taken it
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if error.errno not in _NO_FILES:
                    raise
                if not self._clients.make_room():  # it stays ready: the poller would ask again and again
                    self._shut_one(listener)
                return
            self._clients.welcome(accepted, client, address)
