"""The permit store in Redis: valid URLs, failures, and how long keys stay."""

from pathlib import Path

import pytest

from mailbbgun.core.errors import ConfigurationError, RedisUnavailable, explained
from mailbbgun.core.ids import new_id
from mailbbgun.database.db import Database
from mailbbgun.limits.database_permits import DatabasePermitStore
from mailbbgun.limits.permits import PermitRequest, SendingLimits
from mailbbgun.limits.redis_permits import RedisPermitStore
from mailbbgun.limits.stores import permit_store
from mailbbgun.settings.load import load
from tests.servers import Redis
from tests.servers.process import free_port


@pytest.mark.parametrize(
    "url",
    [
        "http://user:secret@host",
        "redis//secret@host",
        "redis://:secret@host:port",
        "redis://:secret@host:99999999",
        "redis://:secret@host/?colour=red",
        "redis://:secret@host/?socket_timeout=long",
        "redis://:secret@[host/0",
        "redis://:secret@host/zero",
        "unix:///secret",
    ],
)
def test_the_error_about_a_wrong_url_does_not_show_its_password(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^REDIS_URL: ") as caught:
        permit_store(load({"MAILBBGUN_REDIS_URL": url}), Database(f"sqlite:///{tmp_path}/x.db"))
    assert "secret" not in explained(caught.value)


def test_without_a_url_the_database_counts(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/x.db")
    assert isinstance(permit_store(load({}), database), DatabasePermitStore)
    assert isinstance(
        permit_store(load({"MAILBBGUN_REDIS_URL": "rediss://user:secret@host:6380/1"}), database), RedisPermitStore
    )


def test_a_redis_that_is_away_silent_or_refuses_the_password_is_unavailable(breakable_redis: Redis) -> None:
    want = PermitRequest(new_id(), 1, SendingLimits(max_per_second=1))
    for url in (f"redis://127.0.0.1:{free_port()}", breakable_redis.url().replace(":tests@", ":secret@")):
        with pytest.raises(RedisUnavailable) as caught:
            RedisPermitStore(url).ask([want])
        assert "secret" not in explained(caught.value)
    breakable_redis.pause()
    try:
        with pytest.raises(RedisUnavailable):
            RedisPermitStore(f"{breakable_redis.url()}?socket_timeout=0.3").ask([want])
    finally:
        breakable_redis.resume()


def test_the_count_of_an_unused_account_expires_after_two_days(redis: Redis) -> None:
    account, permits = new_id(), RedisPermitStore(redis.url())
    permits.ask([PermitRequest(account, 1, SendingLimits(send_interval=600))])
    with redis.client() as client:
        key = f"mailbbgun:pace:{account}"
        assert 2 * 86_400 < client.ttl(key) <= 2 * 86_400 + 601
        kept = client.hgetall(key)
    assert kept[b"used"] == b"1"
    assert b"." in kept[b"free_at"]
    assert b"e" not in kept[b"free_at"]
    permits.close()
