"""How many bytes are kept for connections: requests and answers on their way."""

from collections import OrderedDict

from mailbbgun.server.connection import ClientConnection
from mailbbgun.server.limits import FREE, Stage


class Buffers:
    """Counts the bytes kept for all connections together, which are to be ``most`` at the most.

    Up to ``FREE`` bytes of a connection do not count; connections are bounded themselves.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = 0
        self._holding: OrderedDict[ClientConnection, None] = (
            OrderedDict()
        )  # those that count, in the order of their progress

    def hold(self, connection: ClientConnection, held: int) -> None:
        """Note how many bytes are kept for a connection now."""
        counted = held if held > FREE else 0
        self._bytes += counted - connection.held
        connection.held = counted
        if counted:
            self._holding.setdefault(connection)
        else:
            self._holding.pop(connection, None)

    @property
    def full(self) -> bool:
        """Whether more bytes are kept than may be."""
        return self._bytes > self._most

    def renew(self, connection: ClientConnection) -> None:
        """Note that a connection has made progress."""
        if connection in self._holding:
            self._holding.move_to_end(connection)

    def excess(self) -> ClientConnection | None:
        """Return the connection to close if too many bytes are kept: the one that has moved least for longest."""
        if not self.full or len(self._holding) < 2:
            return None
        return next((one for one in self._holding if one.stage is not Stage.SERVED), None)
