"""Doors for tests of alerts."""

from tests.http.conftest import door as door
from tests.tenants.conftest import locked as locked
