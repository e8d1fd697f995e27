"""Mails of templates, from the door to the sink."""

from email import message_from_bytes, policy

import pytest

from tests.flow.service import Service
from tests.flow.test_composed import raw
from tests.templates.conftest import VALUES, WELCOME


@pytest.fixture
def shared(running: Service) -> Service:
    """The service that the tests of this file share, without pending mail."""
    running.renew()
    return running


@pytest.fixture
def welcome(shared: Service) -> dict:
    shared.http.delete(f"{shared.url}/templates/welcome")
    made = shared.http.post(f"{shared.url}/templates", json=WELCOME)
    assert made.status_code == 201, made.text
    return made.json()


def send(service: Service, **fields) -> dict:
    answer = service.http.post(f"{service.url}/messages", json={"to": "ann@example.test"} | fields)
    return answer.json()


def parsed(service: Service, identifier: str):
    return message_from_bytes(raw(service, identifier), policy=policy.default)


def test_a_mail_is_made_of_a_template_and_the_values_of_its_variables(shared, welcome):
    for called in ("welcome", welcome["id"]):
        sent = send(shared, template=called, variables=VALUES)
        assert sent["subject"] == "Welcome, Ann <Lee>!"
        shared.ended(sent["id"], "DELIVERED")
        mail = parsed(shared, sent["id"])
        assert mail["Subject"] == "Welcome, Ann <Lee>!"
        text = mail.get_body(("plain",)).get_content().replace("\r\n", "\n")
        assert text == "Hello Ann <Lee>\n\nYour order 17 (https://example.com/17).\n"
        assert "<h1>Hello Ann &lt;Lee&gt;</h1>" in mail.get_body(("html",)).get_content()


def test_a_mail_is_in_the_language_of_its_reader(shared, welcome):
    for locale, subject, direction in (("ja-JP", "ようこそ、Ann <Lee>様", ""), ("ar", "مرحبا Ann <Lee>", 'dir="rtl"')):
        sent = send(shared, template="welcome", variables=VALUES, locale=locale)
        shared.ended(sent["id"], "DELIVERED")
        mail = parsed(shared, sent["id"])
        assert mail["Subject"] == subject
        assert direction in str(mail.get_body().get_content())


def test_an_accepted_mail_keeps_its_texts_when_the_template_changes_or_goes(shared, welcome):
    sent = send(shared, template="welcome", variables=VALUES, to="later-2-ann@example.test")
    shared.http.patch(f"{shared.url}/templates/welcome", json={"subject": "Other"})
    assert shared.http.delete(f"{shared.url}/templates/welcome").status_code == 204
    shared.ended(sent["id"], "DELIVERED")
    assert parsed(shared, sent["id"])["Subject"] == "Welcome, Ann <Lee>!"


def test_a_variable_adds_no_header(shared, welcome):
    evil = "Ann\r\nBcc: eve@example.test\r\n\r\n<html>\u2028\x85\x0b"
    sent = send(shared, template="welcome", variables=VALUES | {"name": evil})
    shared.ended(sent["id"], "DELIVERED")
    mail = parsed(shared, sent["id"])
    assert mail["Subject"] == "Welcome, Ann Bcc: eve@example.test <html> !"
    assert mail["Bcc"] is None
    assert shared.copies() == {"ann@example.test": 1}


def test_what_a_template_lacks_is_told_when_a_mail_is_accepted(shared, welcome):
    def wrong(**fields) -> dict:
        answer = send(shared, **fields)
        assert answer["error"]["status"] == 400, answer
        return answer["error"]["fields"]

    assert wrong(template="welcome", variables={"name": "Ann"})["html"] == [
        "Line 1: `link` is not among the variables; give it, or write `{{ link|default('') }}`."
    ]
    assert "There is no template 'nobody'" in wrong(template="nobody")["template"][0]
    assert list(wrong(template="welcome", variables=VALUES, locale="?")) == ["locale"]
    assert list(wrong(template="welcome", variables=VALUES, subject="x", text="y")) == ["subject", "text"]
    assert list(wrong(subject="x", text="y", variables={"a": 1})) == ["variables"]
    both = wrong(template="welcome", variables={"name": "Ann", "link": ""}, to="nobody")
    assert sorted(both) == ["html", "text", "to"]
    long = send(shared, template="welcome", variables=VALUES | {"name": "x" * 1200})
    assert "subject" in long["error"]["fields"]


def test_a_repeated_request_is_one_mail_also_if_the_template_has_changed(shared, welcome):
    def once() -> dict:
        headers = {"Idempotency-Key": "once"}
        body = {"to": "ann@example.test", "template": "welcome", "variables": VALUES}
        return shared.http.post(f"{shared.url}/messages", json=body, headers=headers).json()

    first = once()
    shared.http.patch(f"{shared.url}/templates/welcome", json={"subject": "Other {{ name }}"})
    assert once() == first
    shared.ended(first["id"], "DELIVERED")
    assert shared.copies() == {"ann@example.test": 1}
