"""The setting of mailboxes."""

from dataclasses import dataclass

from mailbbgun.settings.parts.licences import LicenceSettings
from mailbbgun.settings.values import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxSettings(LicenceSettings):
    """A part of :class:`~mailbbgun.settings.settings.Settings`."""

    MAILDIR_ROOT: str = setting(
        "",
        "A folder to which workers also write the mail of mailboxes, each as a Maildir of its own (domain/local part), "
        "for an IMAP server such as Dovecot. Empty: mail is in the database alone.",
    )
