"""The setting of the log of events."""

from dataclasses import dataclass

from mailbbgun.settings.parts.files import FileSettings
from mailbbgun.settings.values import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSettings(FileSettings):
    """A part of :class:`~mailbbgun.settings.settings.Settings`."""

    EVENT_DAYS: int = setting(
        0,
        "How many days an event is kept, whether its message is still there or not. PostgreSQL keeps it until its "
        "whole month is as old. 0: as long as METADATA_DAYS keeps messages.",
        least=0,
        most=36_500,
    )
