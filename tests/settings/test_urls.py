"""URLs of servers: which are refused, and that no error shows a password."""

import pytest

from mailbbgun.core.errors import ConfigurationError
from mailbbgun.settings.load import load

CANARY = "hunter2"
ESCAPES = "# as %23"


@pytest.mark.parametrize("name", ["DATABASE_URL", "QUEUE_URL", "REDIS_URL"])
@pytest.mark.parametrize(
    ("rest", "told"),
    [
        (f"//u:{CANARY}#x@host/x", ESCAPES),
        (f"//u:{CANARY}@x@host/x", ESCAPES),
        (f"//u:{CANARY}/x@host/x", ESCAPES),
        (f"//u:{CANARY}?x@host/x", ESCAPES),
        (f"//u:{CANARY}[x@host/x", ESCAPES),
        (f"//u:{CANARY}@host:port/x", "port must be a number"),
        (f"//u:{CANARY}@host:70000/x", "port must be a number"),
        (f"//u:{CANARY}@ho st/x", "blank"),
        (f"//u:{CANARY}@host/x\n", "control character"),
        (f"u:{CANARY}@host/x", "after the scheme come ://"),
    ],
)
def test_a_password_that_is_not_escaped_is_refused_and_not_shown(name: str, rest: str, told: str) -> None:
    scheme = {"DATABASE_URL": "postgresql", "QUEUE_URL": "amqp", "REDIS_URL": "redis"}[name]
    with pytest.raises(ConfigurationError, match=rf"^{name}: ") as caught:
        load({f"MAILBBGUN_{name}": f"{scheme}:{rest}"})
    assert told in str(caught.value)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (f"mysql://u:{CANARY}@host/x", "must begin with sqlite: or postgresql:, not mysql:"),
        (f"u:{CANARY}@host/x", "must begin with sqlite: or postgresql:"),
        ("", "must begin with sqlite: or postgresql:"),
        ("sqlite://", "must be sqlite:/// and a path"),
        ("sqlite://x.db", "must be sqlite:/// and a path"),
        ("sqlite:x.db", "must be sqlite:/// and a path"),
        ("sqlite:///:memory:", "must name a file"),
    ],
)
def test_an_invalid_database_url_is_an_error(url: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^DATABASE_URL: ") as caught:
        load({"MAILBBGUN_DATABASE_URL": url})
    assert told in str(caught.value)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("postgres://u:p%40w@h/d", "postgresql+psycopg2://u:p%40w@h/d"),
        ("postgres+psycopg2://u:p@h/d", "postgresql+psycopg2://u:p@h/d"),
        ("postgresql://u:p%w{x}:y@[::1]:5/d", "postgresql+psycopg2://u:p%w{x}:y@[::1]:5/d"),
        ("postgresql+psycopg2:///d?host=/run/postgresql", "postgresql+psycopg2:///d?host=/run/postgresql"),
        ("sqlite:////srv/my mail#1/x.db", "sqlite:////srv/my mail#1/x.db"),
    ],
)
def test_a_valid_database_url_is_accepted(given: str, taken: str) -> None:
    assert taken == load({"MAILBBGUN_DATABASE_URL": given}).DATABASE_URL


@pytest.mark.parametrize("url", ["amqp://a:b@h1:1,h2,h3/%2F", "amqps://[::1]:5671/v", "embedded:"])
def test_a_valid_queue_url_is_accepted(url: str) -> None:
    assert url == load({"MAILBBGUN_QUEUE_URL": url}).QUEUE_URL
