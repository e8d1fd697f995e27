"""The kinds of alerts: the figure that each watches, its unit, its defaults, and where to look when it fires."""

from dataclasses import dataclass
from enum import StrEnum


class AlertKind(StrEnum):
    """What an alert watches."""

    FAILURE_RATE = "failure_rate"
    QUEUE_AGE = "queue_age"
    QUEUE_DEPTH = "queue_depth"
    ACCOUNT_PAUSED = "account_paused"
    WEBHOOK_DEAD = "webhook_dead"
    DISK_USE = "disk_use"
    BLOB_USE = "blob_use"
    NOTHING_DELIVERED = "nothing_delivered"
    UNUSUAL_VOLUME = "unusual_volume"
    FAILED_LOGINS = "failed_logins"


@dataclass(frozen=True, slots=True)
class About:
    """What is known of a kind."""

    #: The figure in words. ``{window}`` is the rule's window.
    figure: str
    unit: str
    threshold: float
    #: Where to look, as a command.
    look: str
    most: float = 1e12
    window_seconds: int = 600
    least: int = 0
    #: Whether it may be, and whether it must be, about all tenants.
    may_be_of_all: bool = False
    only_of_all: bool = False
    reads_log: bool = False


ABOUT: dict[AlertKind, About] = {
    AlertKind.FAILURE_RATE: About(
        "the share of deliveries that failed, of all that ended in the last {window}",
        "%",
        10.0,
        "bin/mailbbgun message list --status ERROR",
        most=100.0,
        least=20,
        reads_log=True,
    ),
    AlertKind.QUEUE_AGE: About(
        "how long the oldest delivery that is due has been waiting",
        "seconds",
        300.0,
        "bin/mailbbgun status",
        may_be_of_all=True,
    ),
    AlertKind.QUEUE_DEPTH: About(
        "how many deliveries are due and wait", "deliveries", 1000.0, "bin/mailbbgun status", may_be_of_all=True
    ),
    AlertKind.ACCOUNT_PAUSED: About(
        "how many workers have paused the SMTP account, because it fails",
        "workers",
        1.0,
        "bin/mailbbgun account health",
    ),
    AlertKind.WEBHOOK_DEAD: About(
        "for how long a webhook endpoint has acknowledged nothing of what it was sent",
        "minutes",
        10.0,
        "bin/mailbbgun webhook list",
        most=525_600.0,
    ),
    AlertKind.DISK_USE: About(
        "how full the disk of VAR is on a worker's machine",
        "%",
        90.0,
        "df -h; du -sh var/*",
        most=100.0,
        may_be_of_all=True,
        only_of_all=True,
    ),
    AlertKind.BLOB_USE: About(
        "how large all stored files are together", "MB", 10_000.0, "bin/mailbbgun blobs --help", may_be_of_all=True
    ),
    AlertKind.NOTHING_DELIVERED: About(
        "for how long nothing was delivered",
        "minutes",
        60.0,
        "bin/mailbbgun message list --status PENDING",
        most=1440.0,
        reads_log=True,
    ),
    AlertKind.UNUSUAL_VOLUME: About(
        "how many times as much mail came in the last {window} as is usual",
        "times",
        3.0,
        "bin/mailbbgun message list",
        most=1_000_000.0,
        window_seconds=3600,
        least=100,
        reads_log=True,
    ),
    AlertKind.FAILED_LOGINS: About(
        "how many requests came without a valid API key in the last {window}",
        "requests",
        100.0,
        "the API's log lines request_refused and address_locked",
        window_seconds=300,
        may_be_of_all=True,
        only_of_all=True,
    ),
}


def in_words(seconds: float) -> str:
    """Return a duration in words: ``90 seconds``, ``10 minutes``, ``3 hours``."""
    for size, unit in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= 2 * size or seconds == size:
            number = seconds / size
            return f"{number:.3g} {unit}{'' if number == 1 else 's'}"
    return f"{seconds:.3g} second{'' if seconds == 1 else 's'}"


def shown(value: float | None, kind: AlertKind) -> str:
    """Return a figure with its unit."""
    if value is None:
        return "none"
    number = f"{value:,.0f}" if value == round(value) else f"{value:,.2f}" if value < 1000 else f"{value:,.0f}"
    unit = ABOUT[kind].unit
    return f"{number} {unit.removesuffix('s') if value == 1 else unit}"
