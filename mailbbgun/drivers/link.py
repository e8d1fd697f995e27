"""A non-blocking TCP socket: the `operations.TcpLink` of both drivers."""

import contextlib
import errno
import os
import socket
import struct

from mailbbgun.drivers.operations import Send

#: Octets offered to the kernel at once, and how often in a row: a server that takes much and quickly
#: must not hold back the others of a loop.
CHUNK, CHUNKS = 64 * 1024, 16

#: Octets taken from the kernel at once.
READ = 8 * 1024

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER for 0 seconds: close by RST
_UNDER_WAY = (0, errno.EINPROGRESS)


class SocketLink:
    """A socket that is connected, or is being connected."""

    __slots__ = ("socket",)

    def __init__(self, address: str, port: int) -> None:
        """Begin to connect to an IP address. Raises OSError."""
        family, kind, protocol, _, place = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )[0]
        self.socket = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
        try:
            # The final dot is a small write of its own. Nagle's algorithm would hold it back until
            # the message is acknowledged.
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._raise(self.socket.connect_ex(place))
        except OSError:
            self.socket.close()
            raise

    def is_connected(self) -> bool:
        """Return whether the connection is there yet. Raises OSError if it could not be made."""
        self._raise(self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        try:
            self.socket.getpeername()
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise
            return False
        return True

    def receive_now(self) -> bytes | None:
        try:
            return self.socket.recv(READ)
        except BlockingIOError:
            return None

    def send_now(self, operation: Send) -> bool:
        """Hand over what the kernel takes, up to 1 MB; return whether that is all. Raises SendFailed."""
        try:
            for _ in range(CHUNKS):
                sent = self.socket.send(operation.data[:CHUNK])
                operation.handed = True
                if sent == len(operation.data):
                    return True
                operation.data = memoryview(operation.data)[sent:]
        except BlockingIOError:
            return False
        except OSError as error:
            raise operation.failed(error) from error
        return False

    def addresses(self) -> tuple[str, str]:
        return self.socket.getpeername()[0], self.socket.getsockname()[0]

    def close(self) -> None:
        self.socket.close()

    def abort(self) -> None:
        with contextlib.suppress(OSError):  # the connection is gone already
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.socket.close()

    @staticmethod
    def _raise(code: int) -> None:
        if code not in _UNDER_WAY:
            raise OSError(code, os.strerror(code))
