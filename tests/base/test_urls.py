"""What in a URL would be taken for something else than was meant."""

import pytest

from mailbbgun.base.db import Database
from mailbbgun.base.errors import ConfigurationError
from mailbbgun.base.settings import load
from mailbbgun.base.urls import misread


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("amqp://robot:a#b@host/vhost", "%23"),
        ("amqp://robot:a/b@host/vhost", "%2F"),
        ("amqp://robot:a?b@host/vhost", "%3F"),
        ("amqp://robot:a@b@host1,host2/vhost", "%40"),
        ("redis://:#@host:6379/0", "%23"),
    ],
)
def test_a_character_that_ends_a_password_too_early_is_named_with_its_remedy(url: str, says: str) -> None:
    found = misread(url)
    assert found is not None
    assert says in found
    assert "robot" not in found


@pytest.mark.parametrize(
    "url",
    ["amqp://robot:a%23b%40@host1:5672,host2/vhost?heartbeat=5", "redis://host:6379/0", "rediss://:p:w@[::1]:6379/0", "amqp://host/v@host?x=a@b"[:12],
     "embedded:", "amqp://u:p@host/v%40x?name=a@b"],
)
def test_what_is_sound_is_not_complained_of(url: str) -> None:
    assert misread(url) is None


@pytest.mark.parametrize(
    ("setting", "url", "says"),
    [
        ("QUEUE_URL", "amqp://robot:CANARY#x@host/vhost", "%23"),
        ("REDIS_URL", "redis://:CANARY/x@host/0", "%2F"),
        ("QUEUE_URL", "amqp://r:x@CANARY@h", "%40"),
    ],
)
def test_settings_with_such_a_url_are_refused_without_saying_the_password(setting: str, url: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{setting}: .*{says}") as caught:
        load({f"MAILBBGUN_{setting}": url})
    assert "CANARY" not in str(caught.value)


def test_a_database_url_with_a_second_at_sign_is_refused_without_saying_the_password() -> None:
    with pytest.raises(ConfigurationError, match=r"DATABASE_URL: .*%40") as caught:
        Database("postgresql+psycopg2://robot:x@CANARY@host/name")
    assert "CANARY" not in str(caught.value)
