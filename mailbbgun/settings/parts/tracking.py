"""The settings about tracked mail."""

from dataclasses import dataclass

from mailbbgun.settings.parts.events import EventSettings
from mailbbgun.settings.values import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingSettings(EventSettings):
    """A part of :class:`~mailbbgun.settings.settings.Settings`."""

    TRACKING_IP_DAYS: int = setting(
        7,
        "How many days the IP addresses of people who open tracked mail or follow its links are kept. 0: they are "
        "not kept at all.",
        least=0,
        most=3650,
    )
