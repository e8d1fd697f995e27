"""Everything that is encrypted in the database, made anew by the first of ``ENCRYPTION_KEYS``, so that the others may go.

In batches, each a commit of its own: whoever stops it loses nothing, and what the first key made already is left alone, so the next run goes on
where this one ended. A secret that somebody changes at the same moment keeps what he gave it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Column, MetaData, bindparam, func, null, select, update

from mailbbgun.database.crypto import Vault
from mailbbgun.database.db import ENCRYPTED, Database

BATCH = 200  # secrets a commit: some milliseconds of work, so nobody waits long for a row of it

Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Place:
    """A column of secrets, the key of its table, and what tells people which secret it is."""

    value: Column[str]
    key: Column[Any]
    name: Column[str]

    @property
    def table(self) -> str:
        """The name of its table."""
        return self.value.table.name


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A secret that none of the keys opens. ``tenant_id`` is None if it is the service's own."""

    table: str
    tenant_id: UUID | None
    name: str


@dataclass(slots=True)
class Tally:
    """How many secrets each key opens, 0 being the first of them, and which none does."""

    by_key: Counter[int] = field(default_factory=Counter)
    unreadable: list[Unreadable] = field(default_factory=list)

    @property
    def behind(self) -> int:
        """How many secrets another than the first key made."""
        return self.by_key.total() - self.by_key[0]

    @property
    def total(self) -> int:
        """How many secrets there are, readable or not."""
        return self.by_key.total() + len(self.unreadable)


def places(metadata: MetaData) -> list[Place]:
    """Return every column that is marked as :func:`mailbbgun.database.db.encrypted`."""
    found = [
        (table, column) for table in metadata.sorted_tables for column in table.columns if ENCRYPTED in column.info
    ]
    return [Place(column, _only(table.primary_key.columns), table.c[column.info[ENCRYPTED]]) for table, column in found]


def count(db: Database, where: Sequence[Place]) -> int:
    """Return how many secrets there are. Raises :class:`DatabaseUnavailable`."""
    with db.read() as session:
        return sum(session.scalars(select(func.count(place.value))).one() for place in where)


def tally(db: Database, vault: Vault, where: Sequence[Place], progress: Progress) -> Tally:
    """Try the keys on every secret, changing nothing. Raises :class:`DatabaseUnavailable`, :class:`ConfigurationError`."""
    found = Tally()
    for place in where:
        for batch in _batches(db, place):
            for secret in batch:
                opened_by = vault.key_of(secret.value)
                if opened_by is None:
                    found.unreadable.append(Unreadable(place.table, secret.tenant_id, secret.name))
                else:
                    found.by_key[opened_by] += 1
            progress(len(batch))
    return found


def reencrypt(db: Database, vault: Vault, where: Sequence[Place], progress: Progress) -> None:
    """Encrypt by the first key what another one made; leave what none of them opens as it is.

    ``progress`` is told of each batch once it is committed, with its size. Raises
    :class:`DatabaseUnavailable`, :class:`ConfigurationError`.
    """
    for place in where:
        for batch in _batches(db, place):
            old = [secret for secret in batch if vault.key_of(secret.value)]
            _replace(db, place, [{"its_key": one.key, "old": one.value, "new": vault.rotate(one.value)} for one in old])
            progress(len(batch))


def _replace(db: Database, place: Place, changes: Sequence[dict[str, Any]]) -> None:
    """Change those that are still what they were. In the order of their keys: two of us at once then never wait for each other in a ring."""
    if changes:
        still = (place.key == bindparam("its_key"), place.value == bindparam("old"))
        with db.write() as session:
            session.execute(
                update(place.value.table).where(*still).values({place.value.name: bindparam("new")}), changes
            )


class _Secret(NamedTuple):
    key: Any
    value: str
    name: str
    tenant_id: UUID | None


def _batches(db: Database, place: Place) -> Iterator[Sequence[_Secret]]:
    """Give all secrets of a place, by their key."""
    columns = place.value.table.c
    tenant = columns.tenant_id if "tenant_id" in columns else null()
    statement = (
        select(place.key, place.value, place.name, tenant)
        .where(place.value.is_not(None))
        .order_by(place.key)
        .limit(BATCH)
    )
    batch: Sequence[_Secret] = ()
    while not batch or len(batch) == BATCH:
        with db.read() as session:
            rows = session.execute(statement.where(place.key > batch[-1].key) if batch else statement).all()
        batch = [_Secret(*row) for row in rows]
        if not batch:
            return
        yield batch


def _only(columns: Iterable[Column[Any]]) -> Column[Any]:
    (column,) = columns
    return column
