"""Accepts connections of the listening sockets."""

import errno
from collections.abc import Sequence
from functools import partial
from typing import Any

from mailbbgun.server.clients import Clients
from mailbbgun.server.poller import READ, Poller

#: Connections to accept in a row before clients have their turns. The kernel queues new connections
#: in one line, so a new client waits until all connections before its own are accepted. But what has
#: come on accepted connections must be read before so many more come that some are closed.
_AT_ONCE = 16

#: Errors that say that there are no file descriptors, or no memory, for another socket.
_NO_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listeners:
    """The listening sockets of a process. Only for the poller's thread."""

    def __init__(self, poller: Poller, clients: Clients, listeners: Sequence[Any]) -> None:
        self._poller, self._clients = poller, clients
        self._open: list[Any] = []
        self._shut = list(listeners)

    def open(self) -> None:
        """Accept connections at all sockets.

        Call it at the start and then regularly: if there are no file descriptors left,
        :meth:`_accept` shuts a socket.
        """
        while self._shut:
            listener = self._shut.pop()
            self._open.append(listener)
            self._poller.watch(listener, READ, partial(self._accept, listener, listener.getsockname()))

    def shut(self) -> None:
        """Accept no more connections."""
        while self._open:
            self._shut_one(self._open[0])

    def _shut_one(self, listener: Any) -> None:
        self._open.remove(listener)
        self._shut.append(listener)
        self._poller.ignore(listener)

    def _accept(self, listener: Any, address: Any, _ready: int) -> None:
        """Accept connections of a listening socket that is ready.

        ``address`` is the socket's own.
        """
        for _ in range(_AT_ONCE):
            try:
                accepted, client = listener.accept()
            except (BlockingIOError, InterruptedError):  # another process has accepted the connection
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if error.errno not in _NO_FILES:
                    raise
                if not self._clients.make_room():
                    self._shut_one(listener)  # it stays ready, so the poller would call this in every turn
                return
            self._clients.add(accepted, client, address)
