"""The doors of ``tests/http``, for explanations and dry runs."""

from tests.http.conftest import door, tag

__all__ = ["door", "tag"]
