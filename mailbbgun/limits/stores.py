"""Chooses where limits are counted: in Redis, or in the database and in memory.

The Redis client is imported only if it is used, because that takes 0.1 s of a program's start.
"""

from typing import TYPE_CHECKING

from mailbbgun.database.db import Database
from mailbbgun.limits.database_permits import DatabasePermitStore
from mailbbgun.limits.permits import PermitStore
from mailbbgun.settings.settings import Settings

if TYPE_CHECKING:
    from mailbbgun.limits.redis_windows import RedisWindows


def permit_store(settings: Settings, database: Database) -> PermitStore:
    """Return the permit store. Connects to nothing yet. Raises :class:`ConfigurationError`."""
    if not settings.REDIS_URL:
        return DatabasePermitStore(database)
    from mailbbgun.limits.redis_permits import RedisPermitStore

    return RedisPermitStore(settings.REDIS_URL)


def redis_windows(url: str) -> "RedisWindows | None":
    """Return the counter of requests in Redis; None without a URL.

    Connects to nothing yet. Raises :class:`ConfigurationError`.
    """
    if not url:
        return None
    from mailbbgun.limits.redis_windows import RedisWindows

    return RedisWindows(url)
