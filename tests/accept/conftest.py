"""Services on each database, for what happens behind the door."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mailbbgun import schema
from mailbbgun.services import Services, build
from mailbbgun.settings.load import load
from tests import tables


@pytest.fixture(params=["sqlite", "postgresql"])
def services(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Services]:
    """Services with fresh tables and the embedded queue."""
    given = {
        "MAILBBGUN_VAR": str(tmp_path),
        "MAILBBGUN_HOSTNAME": "mail.example.com",
        "MAILBBGUN_ALLOW_WEAK_DURABILITY": "1",
    }
    server = database = None
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql")
        database = tables.database_of(server)
        given["MAILBBGUN_DATABASE_URL"] = server.url(database)
    built = build(load(given))
    tables.put_into(built.db)
    schema.upgrade(built.db)
    yield built
    built.close()
    if server is not None:
        server.drop_database(database)
