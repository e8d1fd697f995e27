"""Gathers the journal lines of one turn of the loop, and writes them at its end.

So connections that are ready at the same time share one write before their dots, and one after
their replies.
"""

from collections.abc import Callable, Sequence

from mailbbgun.core.faults import fault
from mailbbgun.deliver.claim import Claim
from mailbbgun.deliver.journal import Journal
from mailbbgun.deliver.leases import Leases
from mailbbgun.drivers.operations import Suspend
from mailbbgun.smtp.reply import Reply

#: Takes the answer for a transaction that waits, which then goes on at once.
Answer = Callable[[bool | Exception], None]


class JournalTurns:
    """The journal lines that coroutines of one loop wait for. Used by the loop's thread alone."""

    def __init__(self, journal: Journal, leases: Leases) -> None:
        self._journal, self._leases = journal, leases
        self._dots: list[tuple[Sequence[Claim], Answer]] = []
        self._replies: list[tuple[Sequence[Claim], Reply, Answer]] = []

    async def dot(self, claims: Sequence[Claim]) -> bool:
        """Wait until the journal says that the dot of these claims is about to be sent.

        Returns whether their leases stand; if so, the dot must be sent at once. Raises OSError if
        the journal cannot be written.
        """
        return _written(await Suspend(lambda answer: self._dots.append((claims, answer))))

    async def reply(self, claims: Sequence[Claim], reply: Reply) -> None:
        """Wait until the server's reply to their dot is in the journal. Raises OSError."""
        _written(await Suspend(lambda answer: self._replies.append((claims, reply, answer))))

    @property
    def waiting(self) -> bool:
        """Whether there is a line to write."""
        return bool(self._dots or self._replies)

    def end(self) -> None:
        """Write all lines. Each coroutine that waited goes on; a line that it then asks for is written, too."""
        while self.waiting:
            self._write_replies()
            self._write_dots()

    def _write_replies(self) -> None:
        batch, self._replies = self._replies, []
        if not batch:
            return
        written: bool | Exception = True
        for _ in batch:
            fault("reply.write")
        try:
            self._journal.replies([(claims, reply) for claims, reply, _ in batch])
        except Exception as error:  # noqa: BLE001 - of the disk, or a bug of ours: every coroutine that waits raises it
            written = error
        for _, _, answer in batch:
            fault("reply.written")
            answer(written)

    def _write_dots(self) -> None:
        batch, self._dots = self._dots, []
        if not batch:
            return
        for _ in batch:
            fault("dot.write")
        try:
            self._journal.dots([claims for claims, _ in batch])
        except Exception as error:  # noqa: BLE001 - as above
            for _, answer in batch:
                answer(error)
            return
        for claims, answer in batch:
            fault("dot.written")
            answer(self._may_be_sent(claims))

    def _may_be_sent(self, claims: Sequence[Claim]) -> bool | Exception:
        # A process can be suspended between any two instructions, so the leases are checked last of
        # all: after the journal line, and just before this one dot.
        try:
            if self._leases.stand(claims):
                return True
            self._journal.undone(claims)
        except Exception as error:  # noqa: BLE001 - as above
            return error
        return False


def _written(answer: bool | Exception) -> bool:
    if isinstance(answer, Exception):
        raise answer
    return answer
