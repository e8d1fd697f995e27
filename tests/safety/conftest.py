"""What tests of files' safety share."""

from collections.abc import Iterator

import pytest

from tests.servers.clamd import Clamd


@pytest.fixture(scope="module")
def clamd() -> Iterator[Clamd]:
    """A scanner, running. A test that stops it starts it again."""
    with Clamd() as server:
        yield server
