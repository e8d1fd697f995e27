"""The contract of relays: what a way out of mail must keep, so that nothing is lost or sent twice unnoticed.

CONTRIBUTING.rst lists the places of a new relay. ``tests/contract/relays.py`` tries all that is
said here.
"""

from typing import Protocol

from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import Outcome
from mailbbgun.smtp.transaction import AfterDot, BeforeDot


class Relay(Protocol):
    """Carries mail of one route.

    One thread runs many attempts of a relay at the same time, each a coroutine. So an attempt never
    blocks: it awaits the operations of ``drivers/operations.py`` alone. What may block, such as a file,
    a name look-up or another's client library, goes through `InThread`, with a deadline.
    """

    async def attempt(self, envelope: Envelope, before_dot: BeforeDot, after_dot: AfterDot) -> dict[str, Outcome]:
        """Try once to send `envelope`; return the outcome of every recipient, each once, in their order.

        A relay may send to all recipients at once, or to one group after another. For each group:

        1. It makes ready all that can fail before the mail counts as taken, such as the connection,
           the login and the message without its final dot.
        2. It awaits `before_dot` with those recipients. This writes the journal and looks whether
           the lease stands. On False nothing leaves: their outcome is Fenced, and the same holds for
           all recipients that have none yet.
        3. It lets the mail go, at once: the lease may run out.
        4. It awaits `after_dot` with the same recipients as soon as it knows more, before it asks
           for anything else and before it returns. The reply is the server's (2xx: Delivered). It
           has code 0 (or is a server's 421) if the mail certainly did not leave after all
           (Deferred, or Bounced). It is None if nobody knows (Unknown), as when the answer did not
           come in time, or a thread was given up that may still send.

        Where an attempt may be repeated there is nothing to write down, and the two functions are not
        called: nothing leaves in ``local.py``, and the receivers of ``posting/`` know a request again.

        No recipient goes through this again after a reply of 2xx or None.

        Whatever a server, the network or the mail does is an outcome: Deferred (not sent, try again),
        Bounced (never), Refused (not this account). Unknown is for what happens after step 2 alone.
        The attempt raises only what the two functions raise, which ends it. An attempt ends within
        the limits of `Timeouts.dialogue`, for each server that it asks.
        """
