"""Doors for tests of licences, and services for those without HTTP."""

from collections.abc import Iterator

import pytest

from mailbbgun.install import install
from mailbbgun.services import Services, build
from mailbbgun.settings.settings import Settings
from tests import tables
from tests.http.conftest import door as door
from tests.tenants.conftest import locked as locked


@pytest.fixture(autouse=True)
def _key(request: pytest.FixtureRequest) -> None:
    """Give the door the key that initdb.py makes; it encrypts tokens and private keys."""
    if "door" in request.fixturenames:
        request.getfixturevalue("door").services.vault.prepare()


@pytest.fixture
def services(backend: Settings) -> Iterator[Services]:
    """An installation on each database."""
    built = build(backend)
    tables.put_into(built.db)
    install(built)
    yield built
    built.close()
