"""An installed database of each kind, for tests of return paths."""

from dataclasses import replace

import pytest

from mailbbgun.database.crypto import Vault
from mailbbgun.database.db import Database
from mailbbgun.return_paths.paths import ReturnPaths
from mailbbgun.schema import upgrade
from mailbbgun.settings.load import load

DOMAIN = "bounces.example.com"


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return load(
        {
            "MAILBBGUN_VAR": str(tmp_path_factory.mktemp("return_paths")),
            "MAILBBGUN_RETURN_PATH_DOMAIN": DOMAIN,
            "MAILBBGUN_ENCRYPTION_KEYS": "A" * 43 + "=",
        }
    )


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database(request, tmp_path_factory):
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('database')}/x.db"
    else:
        server = request.getfixturevalue("postgresql")
        url = server.url(server.create_database())
    opened = Database(url, pool_size=4)
    upgrade(opened)
    yield opened
    opened.close()


@pytest.fixture
def paths_on(database, settings):
    """Return a function that returns the return paths of a process, whose clock says this day."""

    def made(day, **changed):
        its = replace(settings, **changed)
        opened = ReturnPaths(database, Vault(its), its, lambda: day)
        opened.load()
        return opened

    return made
