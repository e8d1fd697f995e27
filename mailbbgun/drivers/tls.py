"""TLS in memory: encrypted octets on one side, plain ones on the other."""

import ssl

#: Octets that are decrypted at once.
READ = 8 * 1024


class Tls:
    """The client's end of one TLS connection. It moves no octets itself.

    Raises ValueError for a host that is no name and no address.
    """

    __slots__ = ("_incoming", "_object", "_outgoing")

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)

    def shake_hands(self) -> bool:
        """Go on with the handshake; return whether it is done. Raises ssl.SSLError."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def feed(self, data: bytes) -> None:
        """Take encrypted octets; empty: the server closed the connection."""
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def to_send(self) -> bytes:
        """Return the encrypted octets that are to be sent."""
        return self._outgoing.read() if self._outgoing.pending else b""

    def encrypted(self, data: bytes | memoryview) -> bytes | None:
        """Return `data` encrypted, or None if the server must go on with a new handshake first.

        A server with TLS 1.2 may ask for one at any time. Raises ssl.SSLError.
        """
        try:
            self._object.write(data)
        except ssl.SSLWantReadError:
            return None
        return self._outgoing.read()

    def decrypted(self, data: bytes | None) -> bytes | None:
        """Take encrypted octets, if there are any; return plain ones.

        None: more octets are needed. Empty: the server closed TLS or the connection. Raises
        ssl.SSLError.
        """
        if data is not None:
            self.feed(data)
        try:
            return self._object.read(READ)
        except ssl.SSLWantReadError:
            return None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    def details(self) -> tuple[str, str, bytes]:
        """Return the protocol version, the cipher and the server's certificate (DER), which may be unchecked."""
        cipher = self._object.cipher()
        return (
            self._object.version() or "",
            cipher[0] if cipher else "",
            self._object.getpeercert(binary_form=True) or b"",
        )
