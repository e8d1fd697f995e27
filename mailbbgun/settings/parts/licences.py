"""The settings about licences."""

from dataclasses import dataclass

from mailbbgun.settings.parts.slack import SlackSettings
from mailbbgun.settings.values import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenceSettings(SlackSettings):
    """A part of :class:`~mailbbgun.settings.settings.Settings`."""

    LICENCE_LEASE_HOURS: int = setting(
        24,
        "Hours for which a machine's lease of a licence's seat lasts. The machine asks for a new one before.",
        least=1,
        most=8760,
    )
    LICENCE_GRACE_HOURS: int = setting(
        168,
        "Hours for which a machine may go on without asking, after its lease has ended. Its seat is kept for as long.",
        least=0,
        most=8760,
    )
    LICENCE_REQUESTS_PER_MINUTE: int = setting(
        60,
        "How many requests with licence tokens, for their keys and for lists of revoked licences a minute one address "
        "may make. They need no API key. 0: no limit.",
        least=0,
        most=1_000_000,
    )
