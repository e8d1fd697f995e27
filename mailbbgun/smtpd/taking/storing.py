"""Stores submissions, and waits for their commits without a thread for each."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TypeVar

from mailbbgun.accept.accept import Accepted, Accepting, Acceptor
from mailbbgun.accept.fields import Options, Raw, Submission
from mailbbgun.core.caller import Caller
from mailbbgun.database.idempotency import KeyClaim

#: Octets of a message that the loop's thread checks itself. A larger one would hold up the other clients.
SMALL = 65_536
#: Threads for large messages, and for those that no shared commit has stored. They wait for the database.
THREADS = 8

T = TypeVar("T")

log = logging.getLogger("mailbbgun.smtpd")


class Storing:
    """Hands submissions to the acceptor. For the event loop's thread."""

    def __init__(self, acceptor: Acceptor) -> None:
        self._acceptor = acceptor
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="smtpd")

    def close(self) -> None:
        """Wait for what is being stored in threads; begin nothing more."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Return what a function returns that waits, or works for long."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def store(
        self, submission: Submission, caller: Caller, options: Options, key_claim: KeyClaim | None = None
    ) -> Accepted:
        """Store a submission. It is committed when this returns. Raises what ``Acceptor.accept`` and its result do."""
        begin = partial(self._acceptor.accept, submission, caller, options, key_claim=key_claim)
        small = isinstance(submission, Raw) and len(submission.mime) <= SMALL
        accepting = begin() if small else await self.in_thread(begin)
        await _begun(accepting)
        return accepting.result() if accepting.ended else await self.in_thread(accepting.result)


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
