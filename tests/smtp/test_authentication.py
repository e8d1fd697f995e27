"""Authentication at the opening of a session, and every way in which it can fail."""

from dataclasses import replace

import pytest

from mailbbgun.smtp.endpoint import Endpoint
from mailbbgun.smtp.opening import CannotOpen
from mailbbgun.smtp.outcome import Deferred, Phase, Refused
from tests.smtp.authority import Authority
from tests.smtp.behaviours import in_turn, only, then_close
from tests.smtp.clients import plain, refusal
from tests.smtp.drivers import opened, quit_, with_each_driver
from tests.smtp.peers import PATIENT, Dialogue, Peer, hang_up

pytestmark = with_each_driver


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_each_mechanism_authenticates_and_a_wrong_password_is_refused(mechanism: str) -> None:
    with Peer(users={"j\u00fcrgen": "p\u00e4ss wort"}, mechanisms=mechanism) as peer:
        endpoint = plain(peer, username="j\u00fcrgen", password="p\u00e4ss wort")
        quit_(opened(endpoint, "client.test", PATIENT))
        outcome = refusal(replace(endpoint, password="wrong"))
    assert (type(outcome), outcome.phase, outcome.reply.code) == (Refused, Phase.AUTH, 535)


@pytest.mark.parametrize(
    ("encrypted", "offered", "used"),
    [
        (True, "CRAM-MD5 LOGIN PLAIN", b"AUTH PLAIN"),
        (True, "LOGIN CRAM-MD5", b"AUTH LOGIN"),
        (False, "PLAIN LOGIN CRAM-MD5", b"AUTH CRAM-MD5"),
        (False, "LOGIN PLAIN", b"AUTH PLAIN"),
    ],
)
def test_the_safest_mechanism_for_the_line_is_used(
    encrypted: bool, offered: str, used: bytes, authority: Authority
) -> None:
    with Peer(users={"u": "p"}, mechanisms=offered, tls=authority.server("peer.test"), implicit=encrypted) as peer:
        security = "tls" if encrypted else "none"
        endpoint = plain(peer, security=security, username="u", password="p", ca_file=authority.ca_file)
        quit_(opened(endpoint, "client.test", PATIENT))
    assert next(command for command in peer.commands if command.startswith(b"AUTH")).startswith(used)


REFUSALS = [
    b"504 5.5.4 unrecognized\r\n",
    b"502 5.5.1 not implemented\r\n",
    b"500 what\r\n",
    b"501 5.5.2 cannot decode\r\n",
    b"535 5.7.8 wrong\r\n",
    b"534 5.7.9 too weak\r\n",
    b"538 5.7.11 not so\r\n",
    b"550 5.7.1 no\r\n",
    b"554 5.7.0 no\r\n",
]


@pytest.mark.parametrize("hangs_up", [False, True])
@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal[:3].decode())
@pytest.mark.parametrize("works", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_a_mechanism_that_is_offered_and_refused_is_no_end_while_there_is_another(
    works: str, refusal: bytes, hangs_up: bool
) -> None:
    with Peer(at={"auth": only(works, refusal, hangs_up)}, users={"u": "p"}) as peer:
        quit_(opened(plain(peer, username="u", password="p"), "client.test", PATIENT))
    tried = [command.split()[1].decode() for command in peer.commands if command.startswith(b"AUTH")]
    order = ["CRAM-MD5", "PLAIN", "LOGIN"]
    # A refused mechanism is not tried again, on any connection.
    assert list(dict.fromkeys(tried)) == order[: order.index(works) + 1]
    assert peer.connections == (order.index(works) + 1 if hangs_up else 1)


def test_a_421_after_a_refused_mechanism_leads_to_a_fresh_connection() -> None:
    at = {"auth": in_turn(b"535 5.7.8 no\r\n", then_close(b"421 4.7.0 too many errors\r\n"), None)}
    with Peer(at=at, users={"u": "p"}) as peer:
        quit_(opened(plain(peer, username="u", password="p"), "client.test", PATIENT))
    assert peer.connections == 2


@pytest.mark.parametrize("code", [421, 432, 450, 454])
def test_a_temporary_failure_of_a_mechanism_ends_the_tries(code: int) -> None:
    with Peer(at={"auth": b"%d 4.7.0 later\r\n" % code}, users={"u": "p"}) as peer:
        assert refusal(plain(peer, username="u", password="p")).reply.code == code
    assert len([command for command in peer.commands if command.startswith(b"AUTH")]) == 1


@pytest.mark.parametrize("works", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_login_fails_only_if_all_mechanisms_are_refused_and_the_most_telling_refusal_is_kept(works: str) -> None:
    with Peer(at={"auth": only(works, b"504 5.5.4 unrecognized\r\n")}, users={"u": "another"}) as peer:
        outcome = refusal(plain(peer, username="u", password="p"))
    assert (type(outcome), outcome.reply.code) == (Refused, 535)


def test_a_server_that_hangs_up_on_every_mechanism_is_not_asked_for_ever() -> None:
    with Peer(at={"auth": then_close(b"535 5.7.8 wrong\r\n")}, users={"u": "p"}) as peer:
        outcome = refusal(plain(peer, username="u", password="p"))
    assert (type(outcome), outcome.reply.code, peer.connections) == (Refused, 535, 3)


def test_a_server_that_wants_the_answer_of_plain_on_a_line_of_its_own_gets_it() -> None:
    def ask(dialogue: Dialogue) -> None:
        dialogue.command = b"AUTH PLAIN"  # as if the rest had not been sent
        dialogue.normal(dialogue)

    with Peer(at={"auth": ask}, users={"u": "p"}, mechanisms="PLAIN") as peer:
        quit_(opened(plain(peer, username="u", password="p"), "client.test", PATIENT))


def test_mechanisms_of_two_lines_are_put_together() -> None:
    with Peer(
        extensions=("AUTH GSSAPI PLAIN", "AUTH=LOGIN"),
        users={"u": "p"},
        mechanisms="NTLM",
        at={"auth": only("LOGIN", b"504 no\r\n")},
    ) as peer:
        quit_(opened(plain(peer, username="u", password="p"), "client.test", PATIENT))


def test_the_old_spelling_of_auth_is_understood() -> None:
    with Peer(extensions=("AUTH=LOGIN", "8BITMIME")) as peer, pytest.raises(CannotOpen):
        opened(plain(peer, username="u", password="p"), "client.test", PATIENT)
    assert b"AUTH LOGIN" in peer.commands


@pytest.mark.parametrize("mechanisms", ["GSSAPI NTLM", ""])
def test_a_server_we_cannot_authenticate_with_is_refused(mechanisms: str) -> None:
    with Peer(users={"u": "p"}, mechanisms=mechanisms) as peer:
        outcome = refusal(plain(peer, username="u", password="p"))
    assert (type(outcome), outcome.phase) == (Refused, Phase.AUTH)


def test_the_password_is_not_sent_in_clear_when_tls_was_stripped(authority: Authority) -> None:
    for behaviours in ({}, {"starttls": b"454 no\r\n"}, {"tls": hang_up}):
        context = authority.server("peer.test") if behaviours else None
        with Peer(at=behaviours, users={"u": "p"}, tls=context) as peer:
            outcome = refusal(plain(peer, security="opportunistic", username="u", password="p"))
        assert (type(outcome), outcome.phase) == (Refused, Phase.AUTH)
        assert not any(command.startswith(b"AUTH") for command in peer.commands)


@pytest.mark.parametrize("code", [530, 534, 535, 538, 454, 432])
def test_a_refused_login_is_refused_whatever_its_code(code: int) -> None:
    with Peer(at={"auth": b"%d no\r\n" % code}, users={"u": "p"}) as peer:
        assert isinstance(refusal(plain(peer, username="u", password="p")), Refused)


def test_a_challenge_that_is_not_base64_defers() -> None:
    with Peer(at={"auth": b"334 !!!\r\n"}, users={"u": "p"}) as peer:
        assert isinstance(refusal(plain(peer, username="u", password="p")), Deferred)


def test_the_password_is_not_in_the_representation() -> None:
    assert "secret" not in repr(Endpoint("h", password="secret"))


def test_an_opening_that_fails_once_succeeds_the_next_time() -> None:
    with Peer(at={"banner": in_turn(then_close(b"421 busy\r\n"), None)}) as peer:
        assert refusal(plain(peer)).reply.code == 421
        quit_(opened(plain(peer), "client.test", PATIENT))
