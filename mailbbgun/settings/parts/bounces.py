"""The settings about bounces and complaints: mail that comes back."""

from dataclasses import dataclass

from mailbbgun.settings.parts.licences import LicenceSettings
from mailbbgun.settings.values import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class BounceSettings(LicenceSettings):
    """A part of :class:`~mailbbgun.settings.settings.Settings`."""

    BOUNCE_RULES: str = setting(
        "",
        "Rules that name the cause of a reply before the built-in tables do: a JSON list of "
        '{"pattern": "a regular expression", "class": "hard, soft, block or unknown", "reason": "mailbox_full"}, '
        "or the path of a file with one. The first that matches counts; case does not matter. Only hard ones add "
        "a suppression.",
    )
    RETURN_PATH_DOMAIN: str = setting(
        "",
        "The domain that bounces and complaints come back to, like bounces.example.com; its MX record names the "
        "machine whose MX_LISTEN_PORT takes them. Each delivery then has an envelope sender of its own there, so "
        "recipients of one message no longer share an SMTP transaction, unless the message or its SMTP account names "
        "an envelope sender. Empty: the envelope sender is the account's, or the address in From.",
    )
    RETURN_PATH_DAYS: int = setting(
        35,
        "For how many days after an attempt its envelope sender at RETURN_PATH_DOMAIN takes bounces and complaints.",
        least=1,
        most=365,
    )
