"""An empty installation on each database."""

from collections.abc import Iterator

import pytest

from mailbbgun import schema
from mailbbgun.database.db import Database
from mailbbgun.settings.load import load
from tests import tables


@pytest.fixture(params=["sqlite", "postgresql"])
def db(request: pytest.FixtureRequest, tmp_path) -> Iterator[Database]:
    """A database with our tables."""
    if request.param == "sqlite":
        database = Database(load({"MAILBBGUN_VAR": str(tmp_path)}).DATABASE_URL)
    else:
        server = request.getfixturevalue("postgresql")
        database = Database(server.url(tables.database_of(server)))
    tables.put_into(database)
    schema.upgrade(database)
    yield database
    database.close()
