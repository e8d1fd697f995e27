"""Messages that are stored as what they are made of, from the door to the sink."""

import hashlib
from email import message_from_bytes, policy

import pytest

from tests.flow.service import Service
from tests.waiting import PATIENCE

ICS = (
    "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nUID:1@example.com\r\nEND:VEVENT\r\n"
    "END:VCALENDAR\r\n"
)


@pytest.fixture
def shared(running: Service) -> Service:
    """The service that the tests of this file share, without pending mail."""
    running.renew()
    return running


def raw(service: Service, identifier: str) -> bytes:
    """Return the MIME that the API shows."""
    answer = service.http.get(f"{service.url}/messages/{identifier}/raw", timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    return answer.content


def test_an_invitation_arrives_as_an_alternative_and_as_a_file_and_raw_shows_the_bytes_of_every_try(shared):
    sent = shared.post(
        to="later-1-ann@example.test",
        cc="Bén <ben@example.test>",
        text="Come!",
        html="<p>Come!</p>",
        amp_html="<html ⚡4email></html>",
        calendar={"ics": ICS},
        headers={"X-Order": "1"},
    )
    shared.ended(sent["id"], "DELIVERED")
    shown = raw(shared, sent["id"])
    assert {one["sha"] for one in shared.taken()} == {hashlib.sha256(shown).hexdigest()}
    assert shared.copies() == {"later-1-ann@example.test": 1, "ben@example.test": 1}
    assert shared.message(sent["id"])["size"] == len(shown)
    found = message_from_bytes(shown, policy=policy.default)
    assert (found["Cc"], found["X-Order"]) == ("Bén <ben@example.test>", "1")
    assert [part.get_content_type() for part in found.walk()] == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "text/x-amp-html",
        "text/html",
        "text/calendar",
        "application/ics",
    ]
    calendar, invitation = [*found.walk()][-2:]
    assert (calendar["Content-Type"].params["method"], calendar.get_content().replace("\r\n", "\n")) == (
        "REQUEST",
        ICS.replace("\r\n", "\n"),
    )
    assert (invitation.get_filename(), invitation.get_content()) == ("invite.ics", ICS.encode())
