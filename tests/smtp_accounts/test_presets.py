"""Presets have sensible values and cannot be changed."""

from dataclasses import FrozenInstanceError, fields

import pytest

from mailbbgun.core.errors import InvalidInput
from mailbbgun.smtp.endpoint import Endpoint
from mailbbgun.smtp_accounts.presets import PRESETS, Preset, preset

NAMES = ["gmail", "outlook", "exmail", "aliyun", "ses", "sendgrid", "mailgun", "postmark"]
LIMITS = [one.name for one in fields(Preset) if one.name.startswith("max_")]


def test_all_eight_providers_are_there():
    assert list(PRESETS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_has_encryption_its_port_and_hints(name):
    found = preset(name)
    assert found.name == name
    assert (found.port, found.security) in [(587, "STARTTLS"), (465, "TLS")]
    assert found.host.islower()
    assert "." in found.host
    assert found.username_hint.endswith(".")
    assert found.host_hint is None or found.host_hint.endswith(".")
    endpoint = Endpoint(found.host, found.port, "tls" if found.security == "TLS" else "starttls", found.username)
    assert endpoint.verify


@pytest.mark.parametrize("name", NAMES)
def test_a_limit_is_a_positive_number_or_unknown(name):
    for limit in LIMITS:
        assert getattr(preset(name), limit) is None or getattr(preset(name), limit) > 0, limit


def test_presets_have_the_values_that_providers_publish():
    assert preset("sendgrid").username == "apikey"
    assert (preset("outlook").max_connections, preset("outlook").max_per_minute) == (3, 30)
    assert (preset("gmail").max_per_day, preset("gmail").max_recipients_per_message) == (500, 100)
    assert (preset("ses").max_recipients_per_message, preset("postmark").max_recipients_per_message) == (50, 50)
    assert "<region>" in preset("ses").host_hint


@pytest.mark.parametrize("name", ["", "Gmail", "hotmail", "gmail "])
def test_the_error_for_an_unknown_name_lists_the_known_names(name):
    with pytest.raises(InvalidInput) as caught:
        preset(name)
    for known in NAMES:
        assert known in caught.value.fields["preset"][0]


def test_presets_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        preset("gmail").host = "evil.test"
    with pytest.raises(TypeError):
        PRESETS["evil"] = preset("gmail")
