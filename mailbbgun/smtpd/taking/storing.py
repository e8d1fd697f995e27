"""Stores submissions, and waits for their commits without a thread for each."""

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TypeVar

from mailbbgun.accept.accept import Accepted, Accepting, Acceptor
from mailbbgun.accept.fields import Options, Raw, Received, Submission
from mailbbgun.core.caller import Caller
from mailbbgun.database.idempotency import KeyClaim

#: Octets of a message that the loop's thread checks itself. A larger one would hold up the other clients.
SMALL = 65_536
#: Threads for large messages, and for those that no shared commit has stored. They wait for the database.
THREADS = 8

#: What may announce a part that is no text.
_FILE = re.compile(rb"content-type[ \t]*:(?!\s*text/)|content-disposition", re.IGNORECASE)

T = TypeVar("T")


class Storing:
    """Hands submissions to the acceptor. For the event loop's thread."""

    def __init__(self, acceptor: Acceptor, *, scans: bool) -> None:
        """``scans``: a server is asked about each mail."""
        self._acceptor, self._scans = acceptor, scans
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="smtpd")

    def close(self) -> None:
        """Begin nothing more. What a thread is storing is stored, or waits for a database that is away."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Return what a function returns that waits, or works for long."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def store(
        self, submission: Submission, caller: Caller, options: Options, key_claim: KeyClaim | None = None
    ) -> Accepted:
        """Store a submission. It is committed when this returns. Raises what ``Acceptor.accept`` and its result do."""
        begin = partial(self._acceptor.accept, submission, caller, options, key_claim=key_claim)
        accepting = begin() if self._is_quick(submission) else await self.in_thread(begin)
        await _begun(accepting)
        return accepting.result() if accepting.ended else await self.in_thread(accepting.result)

    def _is_quick(self, submission: Submission) -> bool:
        """Say whether a submission is checked in no time: it is short, and has no file to be examined."""
        if isinstance(submission, Received):
            return len(submission.mime) <= SMALL
        if not isinstance(submission, Raw) or self._scans:
            return False
        return len(submission.mime) <= SMALL and _FILE.search(submission.mime) is None


async def _begun(accepting: Accepting) -> None:
    """Begin to store a message, and wait until its result need not wait for a shared commit."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def tell() -> None:
        with suppress(RuntimeError):  # the loop is closed: the program has stopped, and nobody waits
            loop.call_soon_threadsafe(_end, ready)

    accepting.begin(tell)
    await ready


def _end(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
