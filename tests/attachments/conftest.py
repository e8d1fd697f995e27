"""Services with files, and real APIs, on each configuration."""

from collections.abc import Iterator

import pytest

from mailbbgun import services
from mailbbgun.install import install
from mailbbgun.services import Services
from mailbbgun.settings.settings import Settings
from tests import tables
from tests.tenants.conftest import Locked, opened

#: Bytes of the largest file that the APIs take.
MOST = 2_000_000


@pytest.fixture
def installed(backend: Settings) -> Iterator[Services]:
    """Services with tables, and a folder for files."""
    made = services.build(backend)
    tables.put_into(made.db)
    install(made)
    yield made
    made.close()


@pytest.fixture(scope="module", params=["folder", "s3"])
def door(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    """An API that requires keys: with SQLite and a folder, and with PostgreSQL and S3."""
    settings = {"MAX_FILE_SIZE": str(MOST)}
    if request.param == "s3":
        server = request.getfixturevalue("postgresql")
        settings["DATABASE_URL"] = server.url(server.create_database())
        settings["BLOBS_URL"] = request.getfixturevalue("rgw").url()
    with opened(tmp_path_factory.mktemp("files"), 1, **settings) as made:
        made.services.blobs.prepare()
        yield made
