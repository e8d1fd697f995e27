"""The settings of statistics: how long figures are kept, and how many labels are told apart."""

from dataclasses import dataclass

from mailbbgun.settings.parts.webhooks import WebhookSettings
from mailbbgun.settings.values import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticsSettings(WebhookSettings):
    """A part of :class:`~mailbbgun.settings.settings.Settings`."""

    STATISTICS_DAYS: int = setting(
        0, "How many days the figures of whole days are kept. 0: for ever.", least=0, most=36_500
    )
    STATISTICS_HOUR_DAYS: int = setting(92, "How many days the figures of each hour are kept.", least=1, most=3660)
    STATISTICS_MINUTE_DAYS: int = setting(3, "How many days the figures of each minute are kept.", least=1, most=92)
    STATISTICS_LABELS: int = setting(
        200,
        "Most tags, most domains and most accounts that the statistics of a tenant tell apart in one day. The first "
        "ones of the day have figures of their own; all others are summed up as other.",
        least=1,
        most=10_000,
    )
