"""The settings about Slack."""

from dataclasses import dataclass

from mailbbgun.settings.parts.alerts import AlertSettings
from mailbbgun.settings.values import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackSettings(AlertSettings):
    """A part of :class:`~mailbbgun.settings.settings.Settings`."""

    SLACK_API_URL: str = setting(
        "https://slack.com/api/",
        "Where Slack's Web API is. https://slack-gov.com/api/ is GovSlack's. With another host, for tests, "
        "incoming webhooks may be there, too; otherwise they are at hooks.slack.com or hooks.slack-gov.com.",
    )
    SLACK_TIMEOUT: int = setting(
        15,
        "Seconds that Slack may take for one step: to be connected to, and to answer. A message whose answer does "
        "not come in time is treated as ON_UNKNOWN says.",
        least=1,
        most=60,
    )
