"""The content of received mail is shown to a real ClamAV and a real rspamd, and either may be away."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from mailbbgun.core.errors import ConfigurationError
from mailbbgun.safety.scanner import Scanner
from mailbbgun.settings.load import load
from mailbbgun.verification.rspamd import MailOrigin, Rspamd, SpamFilterUnavailable, SpamVerdict, parsed
from mailbbgun.verification.scan import ContentScan, ContentVerdict
from tests.outgoing.receiver import Receiver, answering, trickling
from tests.servers.clamd import EICAR, MOST, Clamd
from tests.servers.rspamd import SPAM, SUSPICIOUS, RspamdServer
from tests.waiting import PATIENCE, bounded

HEAD = b"From: ann@example.com\r\nSubject: x\r\n\r\n"
ORIGIN = MailOrigin("192.0.2.1", "mail.example.com", "ann@example.com", "bob@here.test", "q1")


@pytest.fixture(scope="module")
def clamd() -> Iterator[Clamd]:
    with Clamd() as server:
        yield server


@pytest.fixture(scope="module")
def filter_() -> Iterator[RspamdServer]:
    with RspamdServer() as server:
        yield server


@pytest.fixture
def rspamd() -> Iterator[Callable[..., Rspamd]]:
    """Makes clients, and closes them."""
    with ExitStack() as stack:
        yield lambda url, seconds=PATIENCE: stack.enter_context(closing(Rspamd(url, seconds)))


def test_viruses_and_spam_are_found(clamd: Clamd, filter_: RspamdServer, rspamd) -> None:
    scan = ContentScan(Scanner(clamd.url), rspamd(filter_.url))
    clean = scan.scan(HEAD + b"hello\r\n", ORIGIN)
    assert (clean.virus, clean.deferred, clean.unchecked) == ("", "", ())
    assert clean.spam is not None
    assert clean.spam.action == "accept"
    assert scan.scan(HEAD + EICAR, ORIGIN) == ContentVerdict("Eicar-Test-Signature.UNOFFICIAL")
    spam = scan.scan(HEAD + SPAM + b"\r\n", ORIGIN).spam
    assert spam is not None
    assert (spam.action, spam.required, spam.text) == ("reject", 15.0, "Gtube pattern")
    suspicious = scan.scan(HEAD + SUSPICIOUS + b"\r\n", ORIGIN)
    assert suspicious.spam is not None
    assert suspicious.spam.action == "quarantine"
    assert suspicious.fields["X-Spam-Flag"] == "YES"


def test_a_message_that_cannot_be_scanned_is_no_clean_one(clamd: Clamd) -> None:
    assert "size limit" in ContentScan(Scanner(clamd.url), None).scan(bytes(2 * MOST), ORIGIN).virus


def test_while_the_scanner_is_away_mail_is_deferred_unless_the_setting_allows_it(clamd: Clamd) -> None:
    nowhere = Scanner("tcp://127.0.0.1:1")
    for down in ("hold", "reject"):
        assert ContentScan(nowhere, None, scanner_down=down).scan(HEAD, ORIGIN).deferred
    allowed = ContentScan(nowhere, None, scanner_down="allow").scan(HEAD, ORIGIN)
    assert allowed == ContentVerdict(unchecked=("virus scanner",))


def test_while_rspamd_is_away_or_hangs_the_setting_decides(filter_: RspamdServer, rspamd) -> None:
    filter_.pause()
    try:
        for url in (filter_.url, "http://127.0.0.1:1"):
            for down in ("accept", "defer"):
                with bounded("a scan"):
                    found = ContentScan(None, rspamd(url, 0.3), rspamd_down=down).scan(HEAD, ORIGIN)
                assert bool(found.deferred) is (down == "defer")
                assert found.unchecked == (() if down == "defer" else ("spam filter",))
    finally:
        filter_.resume()
    assert ContentScan(None, rspamd(filter_.url)).scan(HEAD, ORIGIN).spam is not None


def test_without_servers_nothing_is_found() -> None:
    found = ContentScan.of(load({"MAILBBGUN_HOSTNAME": "mx.here.test"}), None).scan(HEAD + EICAR, ORIGIN)
    assert found == ContentVerdict()
    assert found.fields == {}


OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"


def test_rspamd_is_told_where_the_message_comes_from(rspamd) -> None:
    body = b'{"score": 1, "required_score": 15, "action": "no action"}'
    with Receiver(answering(OK % (len(body), body))) as server:
        client = rspamd(server.url(path=""))
        client.check(HEAD, MailOrigin("2001:db8::1", "a\r\nX-Evil: 1", "gr\u00fc\u00dfe@b.test", "x" * 5000, ""))
    head, _, content = server.requests[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /checkv2 HTTP/1.1"
    assert {b"IP: 2001:db8::1", b"Helo: aX-Evil: 1", "From: grüße@b.test".encode()} <= set(lines)
    assert max(map(len, lines)) < 1100
    assert content == HEAD


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Go\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n",
        OK % (4, b"oops"),
        OK % (2, b"[]"),
        OK % (2, b"{}"),
        b"nonsense\r\n\r\n",
        OK % (5_000_000, b"x" * 5_000_000),
    ],
)
def test_an_answer_that_cannot_be_read_is_none(answer: bytes, rspamd) -> None:
    with Receiver(answering(answer)) as server:
        with pytest.raises(SpamFilterUnavailable):
            rspamd(server.url(path="")).check(HEAD, ORIGIN)


def test_an_answer_that_trickles_ends_in_time(rspamd) -> None:
    with Receiver(trickling(OK % (1000, b"{"), b" ")) as server:
        with bounded("the request"), pytest.raises(SpamFilterUnavailable):
            rspamd(server.url(path=""), 0.5).check(HEAD, ORIGIN)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ({"score": -1.5, "required_score": 15, "action": "no action"}, SpamVerdict(-1.5, 15, "accept")),
        ({"score": 7, "required_score": 15, "action": "add header"}, SpamVerdict(7, 15, "quarantine")),
        ({"score": 7, "action": "rewrite subject"}, SpamVerdict(7, 0, "quarantine")),
        ({"score": 5, "required_score": 15, "action": "greylist"}, SpamVerdict(5, 15, "defer")),
        (
            {"score": 20, "required_score": 15, "action": "reject", "messages": {"smtp_message": "no\r\n250 ok"}},
            SpamVerdict(20, 15, "reject", "no  250 ok"),
        ),
    ],
)
def test_answers_are_read(answer: dict, verdict: SpamVerdict) -> None:
    assert parsed(answer) == verdict


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {},
        {"error": "no"},
        {"score": 1, "action": "odd"},
        {"score": 1, "action": ["reject"]},
        {"score": "x", "action": "reject"},
        {"score": float("nan"), "action": "reject"},
        {"score": {}, "action": "reject"},
        {"score": None, "action": "reject"},
        {"score": 10**400, "action": "reject"},
    ],
)
def test_answers_without_sense_are_refused(answer: object) -> None:
    with pytest.raises(ValueError, match="it"):
        parsed(answer)


@pytest.mark.parametrize("url", ["", "rspamd", "ftp://x", "http://", "http://a b", "http://[x"])
def test_a_url_that_is_none_is_a_wrong_setting(url: str, rspamd) -> None:
    with pytest.raises(ConfigurationError, match="RSPAMD_URL"):
        rspamd(url)
