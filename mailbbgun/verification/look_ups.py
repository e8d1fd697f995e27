"""The DNS queries that one message may cause: few, and none after its time is over."""

from collections.abc import Callable, Sequence
from time import monotonic

from mailbbgun.relays.mx import NoAnswer, NoData, Resolver

#: Octets of a TXT record that is read. RFC 7208 §3.4 wants SPF records of at most 512; a DKIM key of 4096 bits
#: takes 800. Parsers of such texts are not all linear.
LONGEST_TEXT = 4096


class BoundedLookUps:
    """Asks a resolver at most ``most`` times, for ``seconds`` in all. What a library reads goes through it."""

    def __init__(self, resolver: Resolver, seconds: float, most: int, clock: Callable[[], float] = monotonic) -> None:
        self._resolver, self._most, self._clock = resolver, most, clock
        self._deadline = clock() + seconds
        self._asked = 0

    def ask(self, name: str, kind: str) -> Sequence[object]:
        """Return the records of ``kind`` at ``name``; empty if the DNS is certain that there are none.

        Raises :class:`NoAnswer`, also if there is no time or no query left.
        """
        left = self._deadline - self._clock()
        if left <= 0:
            raise NoAnswer("the time for DNS queries about this message is over")
        self._asked += 1
        if self._asked > self._most:
            raise NoAnswer(f"the message needs more than {self._most} DNS queries")
        try:
            return self._resolver.ask(name.removesuffix("."), kind, left)
        except NoData:
            return []

    def texts(self, name: str) -> list[bytes]:
        """Return the TXT records at ``name`` that are not too long, the strings of each joined.

        Raises :class:`NoAnswer`.
        """
        joined = (b"".join(getattr(record, "strings", ())) for record in self.ask(name, "TXT"))
        return [text for text in joined if len(text) <= LONGEST_TEXT]
