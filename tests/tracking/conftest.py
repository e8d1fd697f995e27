"""The doors of ``tests/http``, for tests of tracked mail."""

from tests.http.conftest import door, tag

__all__ = ["door", "tag"]
