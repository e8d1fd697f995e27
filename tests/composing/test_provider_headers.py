"""Which orders to providers a client may set, by table."""

import json

import pytest

from mailbbgun.composing.provider_headers import PROVIDERS, refusal

FREE = [
    ("X-PM-Message-Stream", "outbound"), ("X-PM-Tag", "order"), ("X-PM-Metadata-Order", "17"),
    ("X-SES-CONFIGURATION-SET", "main"),
    ("X-SES-MESSAGE-TAGS", "a=b"), ("X-Mailgun-Tag", "order"), ("x-mailgun-variables", '{"order": 17}'),
    ("X-MC-Tags", "order"),
    ("X-MC-MergeVars", '{"name": "Ann"}'), ("X-Mailin-Tag", "order"), ("X-MJ-CustomID", "17"),
    ("X-Mailjet-Campaign", "order"),
    ("X-SMTPAPI", '{"category": ["order"], "unique_args": {"to": "x"}}'),
    ("x-smtpapi", '{"filters": {"clicktrack": {"settings": {"enable": 0}}}}'),
    ("X-SMTPAPI", "{}"), ("X-MSYS-API", '{"options": {"open_tracking": false}, "campaign_id": "order"}'),
    ("X-AliDM-Trace", "abc"),
    ("X-Order", "17"), ("X-MCount", "1"), ("X-SMTP-Server", "a"), ("X-Priority", "1"), ("Feedback-ID", "a:b:c:d"),
]  # fmt: skip
ADDING = [
    ("X-MC-BccAddress", "eve@evil.test"), ("x-mc-bccaddress", "eve@evil.test"),
    ("X-MJ-TemplateErrorReporting", "eve@evil.test"),
    ("X-Mailgun-Archive-To", "https://evil.test"), ("X-SMTPAPI", '{"to": ["eve@evil.test"]}'),
    ("X-SmtpApi", '{"\\u0074o": ["eve@evil.test"]}'),
    ("X-SMTPAPI", '{"category": "a", "TO": []}'),
    ("X-SMTPAPI", '{"filters": {"bcc": {"settings": {"enable": 1, "email": "eve@evil.test"}}}}'),
    ("X-SMTPAPI", '{"filters": {"clicktrack": {}}, "filters": {"bcc": {}}}'),
    ("X-SMTPAPI", '{"filters": {"bcc": {}}, "filters": {"clicktrack": {}}}'),
    ("X-SMTPAPI", '{"filters": [{"bcc": {}}]}'), ("X-SMTPAPI", "to=eve@evil.test"), ("X-SMTPAPI", '["eve@evil.test"]'),
    ("X-SMTPAPI", ""),
    ("X-SMTPAPI", "[" * 4000), ("X-SMTPAPI", '{"category": "a"} {"to": []}'),
    ("X-MSYS-API", '{"bcc": [{"email": "eve@evil.test"}]}'),
    ("X-SMTPAPI", '{"category": "=?utf-8?q?=22=2C=22to=22=3A=5B=22eve=40evil.test=22=5D=2C=22a=22=3A=22?="}'),
    ("X-MSYS-API", '{"archive": [{"email": "eve@evil.test"}]}'), ("X-MSYS-API", '{"cc": []}'),
]  # fmt: skip
CHANGING = [
    ("X-SES-SOURCE-ARN", "arn:aws:ses:…"), ("X-SES-FROM-ARN", "arn"), ("X-SES-RETURN-PATH-ARN", "arn"),
    ("X-SES-TENANT", "other"),
    ("X-MC-ReturnPathDomain", "evil.test"), ("X-MC-SigningDomain", "evil.test"), ("X-MC-Subaccount", "other"),
    ("X-MSYS-SUBACCOUNT", "7"),
    ("X-Mailgun-Recipient-Variables", "{}"), ("X-Mailgun-Secondary-DKIM", "evil.test"), ("X-MC-NewOrder", "1"),
    ("X-PM-Bcc", "eve@evil.test"),
    ("X-Mailin-Bcc", "eve@evil.test"), ("X-MJ-", "1"), ("X-SMTPAPI-2", '{"to": []}'),
]  # fmt: skip


@pytest.mark.parametrize("limits", ["", "senders", "senders, guests"])
@pytest.mark.parametrize(("name", "value"), FREE)
def test_harmless_orders_and_headers_of_no_provider_are_taken(name: str, value: str, limits: str) -> None:
    assert refusal(name, value, limits) is None


@pytest.mark.parametrize("limits", ["", "senders"])
@pytest.mark.parametrize(("name", "value"), ADDING)
def test_orders_that_add_recipients_are_refused_for_every_key(name: str, value: str, limits: str) -> None:
    assert name in str(refusal(name, value, limits))


@pytest.mark.parametrize(("name", "value"), CHANGING)
def test_orders_that_may_change_the_sender_are_refused_for_keys_that_are_limited(name: str, value: str) -> None:
    told = str(refusal(name, value, "guests"))
    assert name in told
    assert "guests" in told
    assert refusal(name, value) is None


def test_every_entry_of_the_table_can_be_reached() -> None:
    for place, provider in enumerate(PROVIDERS):
        assert provider.prefix == provider.prefix.lower()
        assert not any(provider.prefix.startswith(before.prefix) for before in PROVIDERS[:place]), provider
        assert not provider.harmless & provider.adds
        for order in provider.harmless | provider.adds:
            assert order == order.lower()
        for name, value in (
            (f"{provider.prefix}{order}", "x") for order in provider.harmless if not order.endswith("*")
        ):
            assert refusal(name, value, "senders") is None
        if provider.members:
            harmless = {name: {} for name in provider.members[""]}
            assert refusal(provider.prefix, json.dumps(harmless), "senders") is None
