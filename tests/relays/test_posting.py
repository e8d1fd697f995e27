"""What the relay of posts makes of answers, and of servers that give none."""

import socket
import threading
from uuid import UUID

import pytest

from mailbbgun.core.errors import DatabaseUnavailable
from mailbbgun.drivers.loop import Loop
from mailbbgun.outgoing.http import HTTPAnswer, HTTPClient
from mailbbgun.relays.posting.relay import Posts, PostUnusable, PreparedPost, judged, post_address
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import AnsweringServer, Bounced, Deferred, Delivered
from tests.smtp.drivers import run_on, using

ROUTE = UUID(int=7)
MAIL = Envelope("a@a.test", (post_address(ROUTE),), b"Subject: x\r\n\r\ny\r\n")
PRIVATE = ("127.0.0.0/8",)


@pytest.mark.parametrize(
    ("status", "headers", "kind", "after"),
    [
        (200, {}, Delivered, None),
        (202, {}, Delivered, None),
        (302, {"location": "http://169.254.169.254/"}, Deferred, None),
        (400, {}, Deferred, None),
        (404, {}, Deferred, None),
        (406, {}, Bounced, None),
        (429, {"retry-after": "120"}, Deferred, 120.0),
        (429, {"retry-after": "9" * 400}, Deferred, 3600.0),
        (503, {"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}, Deferred, None),
    ],
)
def test_an_answer_says_what_becomes_of_the_mail(status, headers, kind, after):
    outcome = judged(HTTPAnswer(status, headers, b"", 0.1), AnsweringServer("app.test", None))
    assert isinstance(outcome, kind)
    assert getattr(outcome, "after", None) == after
    assert outcome.reply.text.startswith(f"HTTP {status}")


class Says:
    """A source whose requests go to one URL, or that raises."""

    def __init__(self, said):
        self.said = said

    def prepared(self, route_id, envelope):
        assert (route_id, envelope.recipients) == (ROUTE, MAIL.recipients)
        if isinstance(self.said, Exception):
            raise self.said
        return PreparedPost(self.said, {}, b"body")


@pytest.fixture
def loop():
    with using("loop") as loop:
        assert isinstance(loop, Loop)
        yield loop


def attempted(loop, said, private=PRIVATE):
    posts = Posts(HTTPClient.permitting(private), Says(said))

    async def never(*_):
        raise AssertionError("it needs no journal")

    [outcome] = run_on(loop, posts.relay(post_address(ROUTE)).attempt(MAIL, never, never)).values()
    posts.client.close()
    return outcome


@pytest.mark.parametrize(
    ("error", "kind", "enhanced"),
    [
        (PostUnusable("gone", gone=True), Bounced, "5.3.5"),
        (PostUnusable("not enabled"), Deferred, "4.3.5"),
        (DatabaseUnavailable("away"), Deferred, "4.3.0"),
        (OSError(5, "Input/output error"), Deferred, "4.3.1"),
    ],
)
def test_a_request_that_cannot_be_made_is_an_outcome(loop, error, kind, enhanced):
    outcome = attempted(loop, error)
    assert (type(outcome), outcome.reply.enhanced) == (kind, enhanced)


def test_no_request_goes_to_a_host_that_is_not_permitted(loop):
    with socket.create_server(("127.0.0.1", 0)) as server:
        outcome = attempted(loop, f"http://127.0.0.1:{server.getsockname()[1]}/", private=())
        assert (type(outcome), outcome.reply.enhanced) == (Deferred, "4.7.1")
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_server_that_is_away_or_hangs_up_gets_the_mail_later(loop):
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        threading.Thread(target=lambda: server.accept()[0].close(), daemon=True).start()
        outcome = attempted(loop, url)
    assert (type(outcome), outcome.reply.enhanced) == (Deferred, "4.4.2")
    outcome = attempted(loop, url)
    assert (type(outcome), outcome.reply.enhanced) == (Deferred, "4.4.1")
