"""The relay of mail that no account may carry: it asks no server."""

from dataclasses import dataclass

from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import Outcome, Phase, Refused
from mailbbgun.smtp.reply import Reply
from mailbbgun.smtp.transaction import AfterDot, BeforeDot


@dataclass(frozen=True, slots=True)
class Unroutable:
    """The relay of mail that no account of its tenant may carry now.

    It refuses the mail with the reason ``why``, so the mail waits until an account may carry it.
    """

    why: str

    async def attempt(self, envelope: Envelope, before_dot: BeforeDot, after_dot: AfterDot) -> dict[str, Outcome]:
        """Refuse the mail for every recipient."""
        del before_dot, after_dot
        return dict.fromkeys(envelope.recipients, Refused(Reply(0, "4.3.5", self.why), Phase.CONNECT))
