"""The settings about received mail: who sent it, whether it is spam, and where it is kept."""

from dataclasses import dataclass
from typing import Literal

from mailbbgun.settings.parts.bounces import BounceSettings
from mailbbgun.settings.values import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivingSettings(BounceSettings):
    """A part of :class:`~mailbbgun.settings.settings.Settings`."""

    ARC_TRUSTED_SEALERS: tuple[str, ...] = setting(
        (),
        "Domains of forwarders whose seals (ARC) you trust, such as lists.example.com. Mail that they changed on its "
        "way, and of which they say that it was genuine before, does not fail DMARC.",
    )
    RSPAMD_URL: str = setting(
        "",
        "The spam filter for received mail: rspamd's normal worker, like http://127.0.0.1:11333. Empty: received mail "
        "is not filtered for spam.",
    )
    RSPAMD_SECONDS: int = setting(15, "Seconds that rspamd may take for one message.", least=1, most=120)
    RSPAMD_DOWN: Literal["accept", "defer"] = setting(
        "accept",
        "What to do with received mail while rspamd does not answer. accept: it is not filtered. defer: its sender "
        "is told to come again later (451).",
    )
    MAILDIR_ROOT: str = setting(
        "",
        "A folder to which workers also write the mail of mailboxes, each as a Maildir of its own (domain/local part), "
        "for an IMAP server such as Dovecot. Empty: mail is in the database alone.",
    )
