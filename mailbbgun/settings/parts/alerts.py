"""The settings about alerts."""

from dataclasses import dataclass

from mailbbgun.settings.parts.monitoring import MonitoringSettings
from mailbbgun.settings.values import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertSettings(MonitoringSettings):
    """A part of :class:`~mailbbgun.settings.settings.Settings`."""

    ALERT_SECONDS: int = setting(15, "Seconds between two looks at the figure of an alert.", least=1, most=60)
    ALERT_DAYS: int = setting(90, "How many days incidents of alerts are kept after their end.", least=1, most=36_500)
