"""What every program checks before it works: settings that would fail later are one sentence that tells no password."""

import traceback

import pytest

from mailbbgun.core.errors import ConfigurationError
from mailbbgun.startup import load_checked
from tests.flow.service import CANARY


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"SWEEP": "5"}, "MAILBBGUN_SWEEP: unknown setting"),
        ({"SMTP_URL": f"http://robot:{CANARY}@host"}, "SMTP_URL"),
        ({"DATABASE_URL": "sqlite://"}, "DATABASE_URL"),
        (
            {"ENCRYPTION_KEYS": CANARY},
            "ENCRYPTION_KEYS: each must be 32 bytes in URL-safe base64, as bin/generate-keys makes them",
        ),
        ({"DATABASE_URL": f"mysql://robot:{CANARY}@host/x"}, "DATABASE_URL"),
        ({"QUEUE_URL": f"amqp://robot:{CANARY}@[::1"}, "QUEUE_URL: is not a URL"),
        ({"QUEUE_URL": f"amqp://robot:{CANARY}#x@host/vhost"}, "QUEUE_URL: has a # in it, where a URL ends"),
        (
            {"SMTP_URL": f"smtp://robot:{CANARY}#x@host:25"},
            "SMTP_URL: a # in the user name or password must be written %23",
        ),
        ({"SMTP_URL": f"smtp://robot:{CANARY}@host?security=maybe"}, "SMTP_URL"),
        ({"SMTP_URL": "mx:", "DNS_SERVERS": "127.0.0.1:53,127.0.0.1:54"}, "DNS_SERVERS"),
        ({"SMTP_URL": "mx:", "DNS_SERVERS": "127.0.0.1:70000"}, "DNS_SERVERS"),
        ({"SMTP_URL": "mx:", "DNS_SERVERS": "ns.example.com"}, "DNS_SERVERS"),
    ],
)
def test_what_no_program_starts_with_is_one_sentence_without_a_password(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], told: str
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(f"MAILBBGUN_{name}", value)
    with pytest.raises(ConfigurationError) as caught:
        load_checked()
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert CANARY not in "".join(traceback.format_exception(caught.value, chain=False))
