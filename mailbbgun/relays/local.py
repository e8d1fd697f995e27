"""The relay of mail that is delivered on this machine: it asks no server.

Nothing leaves, so it needs no journal: what a delivery changes is an effect (``smtp/outcome.py``),
which is applied in the transaction of its result. If this process dies before that commit, nothing
was done, and the delivery is tried again.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol
from uuid import UUID

from mailbbgun.core.errors import DatabaseUnavailable
from mailbbgun.drivers.operations import InThread
from mailbbgun.smtp.content import EnvelopeError
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import Deferred, Outcome, Phase
from mailbbgun.smtp.reply import Reply
from mailbbgun.smtp.spooled import header_of, with_fields
from mailbbgun.smtp.transaction import AfterDot, BeforeDot

#: The outcome of a recipient whose domain is not local any more: the next claim finds another route.
HOMELESS = Deferred(Reply(450, "4.4.4", "the domain is not local any more"), Phase.RCPT)


class Destination(Protocol):
    """Takes the mail of some domains: it keeps it in mailboxes, or reads what it reports."""

    def takes(self, domain: str, tenant_id: UUID | None) -> bool:
        """Return whether mail to a domain, in A-labels and lower case, is delivered here.

        ``tenant_id``: by a message of that tenant; None: by any mail. It is asked for every recipient,
        so it answers from memory. Raises :class:`DatabaseUnavailable` if it never knew.
        """

    def deliver(self, envelope: Envelope) -> Mapping[str, Outcome]:
        """Return the outcome of each recipient of the envelope; what changes is in the effect of Delivered.

        It may be called again for the same mail. It runs in a thread, and may ask the database. Raises
        :class:`DatabaseUnavailable`, OSError.
        """


@dataclass(frozen=True, slots=True)
class Local:
    """The relay. Of several destinations that take a domain, the first gets its mail."""

    destinations: Sequence[Destination] = ()

    def takes(self, domain: str, tenant_id: UUID | None = None) -> bool:
        """Return whether mail to a domain is delivered here: see :meth:`Destination.takes`."""
        return any(one.takes(domain, tenant_id) for one in self.destinations)

    async def attempt(self, envelope: Envelope, before_dot: BeforeDot, after_dot: AfterDot) -> dict[str, Outcome]:
        """Deliver the mail to each recipient here. See ``contract.py``, without the journal."""
        del before_dot, after_dot
        return await InThread(lambda: self._delivered(envelope), reads=True)

    def _delivered(self, envelope: Envelope) -> dict[str, Outcome]:
        try:
            signed = (
                with_fields(envelope.raw, envelope.sign(header_of(envelope.raw))) if envelope.sign else envelope.raw
            )
            outcomes: dict[str, Outcome] = {}
            for number, recipients in self._parted(envelope.recipients).items():
                part = replace(envelope, recipients=tuple(recipients), raw=signed, sign=None)
                outcomes |= (
                    self.destinations[number].deliver(part)
                    if number is not None
                    else dict.fromkeys(recipients, HOMELESS)
                )
        except DatabaseUnavailable as error:
            return dict.fromkeys(envelope.recipients, Deferred(Reply(451, "4.3.0", str(error)), Phase.MAIL))
        except OSError as error:
            why = f"cannot be stored: {error.strerror or error}"
            return dict.fromkeys(envelope.recipients, Deferred(Reply(452, "4.3.1", why), Phase.MAIL))
        except EnvelopeError as error:
            return dict.fromkeys(envelope.recipients, error.outcome)
        return {one: outcomes[one] for one in envelope.recipients}

    def _parted(self, recipients: Sequence[str]) -> dict[int | None, list[str]]:
        """Return the recipients by the number of their destination."""
        parts: dict[int | None, list[str]] = defaultdict(list)
        for one in dict.fromkeys(recipients):
            domain = one.rpartition("@")[2].lower()
            takers = (number for number, its in enumerate(self.destinations) if its.takes(domain, None))
            parts[next(takers, None)].append(one)
        return parts
