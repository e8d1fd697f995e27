"""The permit store in Redis.

One script answers for any number of accounts; Redis runs it as a whole. Each account has a hash
``mailbbgun:pace:<id>`` with the columns of ``smtp_pace``, which expires two days after the last
request. A Redis that restarts empty has forgotten what was sent today. If ``max_per_day`` must hold
then, too, give it ``appendonly yes``.
"""

from collections.abc import Sequence
from typing import Any, cast
from urllib.parse import urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from mailbbgun.core.errors import ConfigurationError, RedisUnavailable
from mailbbgun.limits.permits import DAY, Permit, PermitRequest, PermitStore, granted

#: How long Redis may take to accept a connection, and to answer.
SECONDS = 3
#: How many arguments of the script belong to one account.
_ARGUMENTS = 5

# The arithmetic of permits.py in Lua. Fractions are returned as text, because Redis cuts numbers to
# integers.
_SCRIPT = f"""
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local today = math.floor(now / {DAY})
local answers = {{}}
for i, key in ipairs(KEYS) do
    local at = (i - 1) * {_ARGUMENTS}
    local wanted, unused, spacing = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
    local burst, per_day = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
    local kept = redis.call('HMGET', key, 'free_at', 'day', 'used')
    local ahead = math.min(math.max((tonumber(kept[1]) or 0) - now, 0), burst * spacing)
    local used = 0
    if tonumber(kept[2]) == today then
        used = math.max(tonumber(kept[3]) - unused, 0)
    end
    local room = math.floor(math.max(burst - ahead / spacing, 0))
    local n = math.max(math.min(wanted, room, per_day - used), 0)
    ahead, used = ahead + n * spacing, used + n
    redis.call('HSET', key, 'free_at', string.format('%.6f', now + ahead), 'day', today, 'used', used)
    redis.call('EXPIRE', key, math.ceil(ahead) + 2 * {DAY})
    answers[i] = {{n, used, string.format('%.6f', ahead), string.format('%.6f', (today + 1) * {DAY} - now)}}
end
return answers
"""


class RedisPermitStore(PermitStore):
    """Counts in Redis. Raises :class:`RedisUnavailable`."""

    def __init__(self, url: str) -> None:
        """Read the URL, and connect to nothing yet.

        Raises :class:`ConfigurationError`. Its text does not show the URL, which may have a
        password.
        """
        try:
            int(urlsplit(url).path.strip("/") or 0)  # the client would use database 0 if this is no number
            self._redis = Redis.from_url(
                url,
                socket_connect_timeout=SECONDS,
                socket_timeout=SECONDS,
                # If Redis closed an idle connection, only the next request notices. So one is
                # repeated. If Redis had already run it, its permits count twice.
                retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
            )
            # This checks all options of the URL, and does not connect either.
            self._redis.connection_pool.make_connection()
        except (TypeError, ValueError) as error:
            raise ConfigurationError("REDIS_URL: must be redis://user:password@host:port/database") from error
        self._script = self._redis.register_script(_SCRIPT)

    def ask(self, wants: Sequence[PermitRequest]) -> list[Permit]:
        """Answer with one round trip, or with three if Redis does not have the script yet."""
        if not wants:
            return []
        keys = [f"mailbbgun:pace:{want.account_id}" for want in wants]
        arguments = [argument for want in wants for argument in _arguments(want)]
        try:
            answers = cast(list[list[Any]], self._script(keys, arguments))
        except RedisError as error:
            raise _translated(error) from error
        return [
            granted(want, int(n), int(used), float(ahead), float(day_left))
            for want, (n, used, ahead, day_left) in zip(wants, answers, strict=True)
        ]

    def check(self) -> None:
        """Connect and log in; read and change nothing."""
        try:
            self._redis.ping()
        except RedisError as error:
            raise _translated(error) from error

    def close(self) -> None:
        """Close the pooled connections."""
        self._redis.close()


def _translated(error: RedisError) -> RedisUnavailable:
    if isinstance(error, AuthenticationError | AuthorizationError | NoPermissionError):
        return RedisUnavailable("REDIS_URL: Redis refuses our user or password, or what that user may do", refused=True)
    if isinstance(error, ResponseError) and "DB index" in str(error):
        return RedisUnavailable("REDIS_URL: Redis has no database of that number", refused=True)
    return RedisUnavailable("Redis does not answer")


def _arguments(want: PermitRequest) -> tuple[int | str, ...]:
    limits = want.limits
    return want.n, want.unused, repr(limits.interval), repr(limits.burst), limits.per_day
