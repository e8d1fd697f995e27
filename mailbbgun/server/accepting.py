"""A listening socket becomes connections."""

import errno
from typing import Any

from mailbbgun.server.clients import Clients

#: Connections to accept in a row before others have their turn.
_AT_ONCE = 8

_NO_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def accept(clients: Clients, listener: Any, address: Any, _ready: int) -> None:
    """Accept connections of a listening socket that is ready; ``address`` is its own."""
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
            clients.make_room()
            return
        clients.welcome(accepted, client, address)
