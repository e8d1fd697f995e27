"""The settings about webhooks and outgoing HTTP."""

from dataclasses import dataclass

from mailbbgun.settings.parts.tracking import TrackingSettings
from mailbbgun.settings.values import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings(TrackingSettings):
    """A part of :class:`~mailbbgun.settings.settings.Settings`."""

    WEBHOOK_DAYS: int = setting(
        5,
        "After so many days in which a webhook's endpoint has acknowledged no event although there were some, it is "
        "disabled.",
        least=1,
        most=365,
    )
    WEBHOOK_LOG_DAYS: int = setting(
        7, "How many days requests of webhooks that failed are kept, with their answers.", least=1, most=365
    )
    HTTP_CA_FILE: str = setting(
        "",
        "PEM file of certificate authorities to trust for requests that we send by HTTPS, to webhooks for example. "
        "Empty: the system's.",
    )
