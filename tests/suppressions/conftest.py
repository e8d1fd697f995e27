"""The API on each database, as for tests of the front door."""

from tests.http.conftest import door, tag

__all__ = ["door", "tag"]
