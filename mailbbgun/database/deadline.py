"""How long the database may work for one reader, so that others get their turn."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from mailbbgun.core.errors import TookTooLong
from mailbbgun.database.db import dialect_of

_STEPS = 100_000  # of SQLite's machine between two looks at the clock: about a millisecond
_CANCELED, _INTERRUPTED = "57014", "SQLITE_INTERRUPT"


@contextmanager
def at_most(session: Session, seconds: float, sentence: str) -> Iterator[None]:
    """Let PostgreSQL take so many seconds for each statement of a block, waits for locks among them, and SQLite for all of them.

    Raises :class:`TookTooLong` with that sentence. The transaction is of no use then.
    """
    limit = _postgresql if dialect_of(session) == "postgresql" else _sqlite
    try:
        with limit(session, seconds):
            yield
    except DBAPIError as error:
        if (
            getattr(error.orig, "pgcode", None) == _CANCELED
            or getattr(error.orig, "sqlite_errorname", None) == _INTERRUPTED
        ):
            raise TookTooLong(sentence) from error
        raise


@contextmanager
def _postgresql(session: Session, seconds: float) -> Iterator[None]:
    session.connection().exec_driver_sql(
        f"SET LOCAL statement_timeout = {max(round(seconds * 1000), 1)}"
    )  # 0 would be no limit
    yield


@contextmanager
def _sqlite(session: Session, seconds: float) -> Iterator[None]:
    connection = session.connection().connection.driver_connection
    assert connection is not None
    end = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)
