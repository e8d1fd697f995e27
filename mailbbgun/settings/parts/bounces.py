"""The settings about mail that comes back."""

from dataclasses import dataclass

from mailbbgun.settings.parts.mailboxes import MailboxSettings
from mailbbgun.settings.values import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class BounceSettings(MailboxSettings):
    """A part of :class:`~mailbbgun.settings.settings.Settings`."""

    BOUNCE_RULES: str = setting(
        "",
        "Rules that name the cause of a reply before the built-in tables do: a JSON list of "
        '{"pattern": "a regular expression", "class": "hard, soft, block or unknown", "reason": "mailbox_full"}, '
        "or the path of a file with one. The first that matches counts; case does not matter. Only hard ones add "
        "a suppression.",
    )
