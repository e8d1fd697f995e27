"""The services of an installation with files, on each configuration."""

from collections.abc import Iterator

import pytest

from mailbbgun import services
from mailbbgun.install import install
from mailbbgun.services import Services
from mailbbgun.settings.settings import Settings


@pytest.fixture
def installed(backend: Settings) -> Iterator[Services]:
    """Services with tables, and a folder for files."""
    made = services.build(backend)
    install(made)
    yield made
    made.close()
