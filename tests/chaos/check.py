"""Checks the promises: compares accepted recipients, the sink's mail and the database."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from mailbbgun.messages.status import DELIVERED, ERROR, sum_of
from tests.flow.service import Service

_DELIVERIES = """
    SELECT d.message_id, d.address, d.status, d.reason, m.status AS message_status,
        coalesce(e.unknown, 0) AS unknown, coalesce(e.delivered, 0) AS delivered
    FROM deliveries d JOIN messages m ON m.id = d.message_id LEFT JOIN (
        SELECT delivery_id, count(CASE WHEN kind = 'outcome_unknown' THEN 1 END) AS unknown,
            count(CASE WHEN kind = 'delivered' THEN 1 END) AS delivered
        FROM events GROUP BY delivery_id
    ) e ON e.delivery_id = d.id
"""

Key = tuple[UUID, str]  # message id, address


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts of recipients.

    ``unknown`` were marked ``outcome_unknown`` at some time, and ``held`` of them ended so.
    ``copies`` counts the copies beyond the first.
    """

    accepted: int
    lost: int
    duplicated: int
    unknown: int
    held: int
    copies: int

    def __str__(self) -> str:
        return ", ".join(f"{name} {getattr(self, name)}" for name in self.__slots__)


class Wrong(AssertionError):
    """A promise was broken."""

    def __init__(self, text: str, figures: Figures) -> None:
        super().__init__(text)
        self.figures = figures


def check(service: Service, accepted: Mapping[str, str]) -> Figures:
    """Compare everything, once nothing is pending. ``accepted`` maps addresses to message ids.

    Raises :class:`Wrong` when mail is lost, when it came twice without a mark (with
    ``ON_UNKNOWN=hold``: at all), when something came that was never accepted, when copies differ,
    or when a status contradicts what the sink took.
    """
    wanted = {(UUID(identifier), address) for address, identifier in accepted.items()}
    took, bytes_of = _took(service)
    rows = {(UUID(str(row.message_id)), row.address): row for row in service.sql(_DELIVERIES)}
    hold = service.environment.get("MAILBBGUN_ON_UNKNOWN") == "hold"

    # Mail that the server refused, or that was marked and not sent again, need not have arrived.
    ended = {key for key, row in rows.items() if row.status == ERROR and row.reason in ("bounced", "outcome_unknown")}
    lost = [key for key in wanted - ended if not took[key]]
    twice = [key for key, copies in took.items() if copies > 1 + (0 if hold or key not in rows else rows[key].unknown)]
    wrong = {
        "lost": lost,
        "twice, not marked": twice,
        "nobody was told of": (set(took) | set(rows)) - wanted,
        "not in the database": wanted - set(rows),
        "copies that differ": [key for key, shas in bytes_of.items() if len(shas) > 1],
        "untrue": [(key, tuple(row), took[key]) for key, row in rows.items() if not _true(row, took[key])],
        "not the sum of its deliveries": _wrong_sums(rows.values()),
    }
    figures = Figures(
        accepted=len(wanted),
        lost=len(lost),
        duplicated=len(twice),
        unknown=sum(1 for row in rows.values() if row.unknown),
        held=sum(1 for row in rows.values() if row.reason == "outcome_unknown"),
        copies=sum(copies - 1 for copies in took.values() if copies > 1),
    )
    print(figures)
    if any(wrong.values()):
        found = (f"{what} ({len(keys)}): {_some(keys)}" for what, keys in wrong.items() if keys)
        raise Wrong(f"{figures}; {'; '.join(found)}", figures)
    return figures


def _took(service: Service) -> tuple[Counter[Key], Mapping[UUID, set[str]]]:
    """Return how many copies each recipient got, and the hashes of each message's bytes."""
    took: Counter[Key] = Counter()
    bytes_of: dict[UUID, set[str]] = defaultdict(set)
    for message in service.taken():
        identifier = UUID(message["id"][1:37])  # our Message-IDs begin with the message's id
        took.update((identifier, address) for address in message["to"])
        bytes_of[identifier].add(message["sha"])
    return took, bytes_of


def _true(row: Any, copies: int) -> bool:
    if row.status == DELIVERED:
        return copies > 0 and bool(row.delivered == 1)
    if (row.status, row.reason) == (ERROR, "bounced"):
        # The sink refuses only these for good. Any other that bounced is lost.
        return copies == 0 and not row.delivered and bool(row.address.startswith("never-"))
    return (row.status, row.reason) == (ERROR, "outcome_unknown") and row.unknown > 0 and not row.delivered


def _wrong_sums(rows: Iterable[Any]) -> list[str]:
    by_message: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in rows:
        by_message[str(row.message_id), row.message_status].add(row.status)
    return [message for (message, status), statuses in by_message.items() if status != sum_of(statuses)]


def _some(keys: Iterable[object]) -> str:
    return ", ".join(map(str, list(keys)[:5]))
