"""Limits how long the database may work on one query, so that others get their turn."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from mailbbgun.core.errors import TookTooLong
from mailbbgun.database.db import dialect_of

#: Steps of SQLite's virtual machine between two checks of the clock; they take about a millisecond.
_STEPS = 100_000
# The errors of PostgreSQL and SQLite for a statement that took too long.
_CANCELED, _INTERRUPTED = "57014", "SQLITE_INTERRUPT"


@contextmanager
def at_most(session: Session, seconds: float, sentence: str) -> Iterator[None]:
    """Limit the time of the statements in a block.

    On PostgreSQL the limit is for each statement, with its waits for locks; on SQLite it is for the
    whole block. Beyond it :class:`TookTooLong` is raised with this sentence, and the transaction
    has failed.
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
    milliseconds = max(round(seconds * 1000), 1)  # 0 would mean no limit
    session.connection().exec_driver_sql(f"SET LOCAL statement_timeout = {milliseconds}")
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
