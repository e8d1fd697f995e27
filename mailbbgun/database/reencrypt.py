"""Re-encrypts all secrets with the first of ``ENCRYPTION_KEYS``, so that others can be removed.

Each batch is committed by itself, and secrets of the first key are left alone. So it may be stopped
at any time, and the next run goes on from there. A secret that somebody changes at the same moment
keeps its new value.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Column, MetaData, bindparam, func, null, select, update

from mailbbgun.database.crypto import Vault
from mailbbgun.database.db import ENCRYPTED, Database

#: Secrets in one commit. It takes some milliseconds, so nobody waits long for one of its rows.
BATCH = 200

#: Called with the number of secrets of each finished batch.
Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Place:
    """A column of secrets, its table's primary key, and the column that names a secret."""

    value: Column[str]
    key: Column[Any]
    name: Column[str]

    @property
    def table(self) -> str:
        """The name of the table."""
        return self.value.table.name


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A secret that no key decrypts. ``tenant_id`` is None for one of the service itself."""

    table: str
    tenant_id: UUID | None
    name: str


@dataclass(slots=True)
class Tally:
    """How many secrets each key decrypts (0 is the first key), and which secrets none does."""

    by_key: Counter[int] = field(default_factory=Counter)
    unreadable: list[Unreadable] = field(default_factory=list)

    @property
    def behind(self) -> int:
        """How many secrets were encrypted with a key other than the first."""
        return self.by_key.total() - self.by_key[0]

    @property
    def total(self) -> int:
        """How many secrets there are, readable or not."""
        return self.by_key.total() + len(self.unreadable)


def places(metadata: MetaData) -> list[Place]:
    """Return every column that :func:`mailbbgun.database.db.encrypted` marks."""
    found = [
        (table, column) for table in metadata.sorted_tables for column in table.columns if ENCRYPTED in column.info
    ]
    return [Place(column, _only(table.primary_key.columns), table.c[column.info[ENCRYPTED]]) for table, column in found]


def count(db: Database, where: Sequence[Place]) -> int:
    """Return how many secrets there are. Raises :class:`DatabaseUnavailable`."""
    with db.read() as session:
        return sum(session.scalars(select(func.count(place.value))).one() for place in where)


def tally(db: Database, vault: Vault, where: Sequence[Place], progress: Progress) -> Tally:
    """Find the key of every secret, and change nothing.

    Raises :class:`DatabaseUnavailable`, :class:`ConfigurationError`.
    """
    found = Tally()
    for place in where:
        for batch in _batches(db, place):
            for secret in batch:
                number = vault.key_of(secret.value)
                if number is None:
                    found.unreadable.append(Unreadable(place.table, secret.tenant_id, secret.name))
                else:
                    found.by_key[number] += 1
            progress(len(batch))
    return found


def reencrypt(db: Database, vault: Vault, where: Sequence[Place], progress: Progress) -> None:
    """Re-encrypt the secrets of other keys with the first key. Leave secrets that no key decrypts.

    ``progress`` is called after the commit of each batch. Raises :class:`DatabaseUnavailable`,
    :class:`ConfigurationError`.
    """
    for place in where:
        for batch in _batches(db, place):
            old = [secret for secret in batch if vault.key_of(secret.value)]
            _replace(db, place, [{"its_key": one.key, "old": one.value, "new": vault.rotate(one.value)} for one in old])
            progress(len(batch))


def _replace(db: Database, place: Place, changes: Sequence[dict[str, Any]]) -> None:
    """Replace secrets that nobody has changed since.

    In the order of their keys, so that two runs cannot deadlock.
    """
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
    """Yield all secrets of a column in batches, in the order of their keys."""
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
    """Return the one column that there is."""
    (column,) = columns
    return column
