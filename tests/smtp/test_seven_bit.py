"""Bodies that are not 7-bit are encoded for servers without 8BITMIME, and nothing else changes."""

import tempfile
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from email.message import Message

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbbgun.smtp.adapting.seven_bit import MAX_DEPTH, in_seven_bits
from mailbbgun.smtp.content import EnvelopeError, check_lines
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import Bounced, Delivered
from mailbbgun.smtp.spooled import spool
from tests.smtp.clients import send
from tests.smtp.drivers import with_each_form
from tests.smtp.peers import Peer

TOP = b"From: a@a.test\r\nSubject: x\r\nMIME-Version: 1.0\r\n"
TEXT = "Grüße aus Köln, und ein = dazu \r\n.\r\nEnde\t\r\n".encode()
QUOTED = b"Gr=C3=BC=C3=9Fe aus K=C3=B6ln, und ein =3D dazu=20\r\n=2E\r\nEnde=09\r\n"


def encoded(raw: bytes) -> bytes:
    """Return a message as 7-bit data; from a file it is the same."""
    made = in_seven_bits(raw)
    assert isinstance(made, bytes)
    try:
        spooled = spool([raw], tempfile.gettempdir())
    except EnvelopeError:  # what is not sent at all is not put into files
        return made
    with spooled, in_seven_bits(spooled) as other:  # type: ignore[union-attr]  # of a file comes a file
        assert b"".join(other.octets()) == made
    return made


def mixed(*parts: bytes, head: bytes = b"", boundary: bytes = b"b", kind: bytes = b"mixed") -> bytes:
    """Return the fields and the body of a multipart."""
    lines = b"".join(b"\r\n--%b\r\n%b" % (boundary, part) for part in parts)
    field = b'Content-Type: multipart/%b; boundary="%b"\r\n' % (kind, boundary)
    return field + head + b"\r\n" + lines[2:] + b"\r\n--%b--\r\n" % boundary


PLAIN = b"Content-Type: text/plain; charset=utf-8\r\n"
SEVEN = b"Content-Type: text/plain\r\nX-Odd:  two  \r\n\r\nleft = as it is \r\n\r\n"
FILE = b"Content-Type: image/png; name=a.png\r\nContent-Transfer-Encoding: %b\r\n\r\n%b"
ENCODED = FILE % (b"base64", b"iVBORw0KGgo=\r\n")
OCTETS = b"\x89PNG\xff\xfe" * 30


def test_text_becomes_quoted_printable_and_keeps_its_charset() -> None:
    head = TOP + b"Content-Transfer-Encoding: 8bit\r\n" + PLAIN
    label = b"Content-Transfer-Encoding: quoted-printable\r\n"
    assert encoded(head + b"\r\n" + TEXT) == TOP + label + PLAIN + b"\r\n" + QUOTED


def test_text_that_is_mostly_other_letters_becomes_base64() -> None:
    made = encoded(TOP + PLAIN + b"\r\n" + "Привет\r\n".encode())
    assert made == TOP + PLAIN + b"Content-Transfer-Encoding: base64\r\n\r\n0J/RgNC40LLQtdGCDQo="


def test_a_mail_without_mime_gets_the_fields_that_say_how_it_is_encoded_and_no_charset() -> None:
    made = encoded(b"Subject: x\r\n\r\nein kleines l\xe4cheln\r\n")
    label = b"Content-Transfer-Encoding: quoted-printable\r\nMIME-Version: 1.0\r\n"
    assert made == b"Subject: x\r\n" + label + b"\r\nein kleines l=E4cheln\r\n"


def test_only_the_parts_that_are_not_seven_bit_change_at_any_depth() -> None:
    def whole(text: bytes, picture: bytes, label: bytes) -> bytes:
        inner = mixed(SEVEN, PLAIN + text, boundary=b"b2", kind=b"alternative", head=label)
        return TOP + mixed(inner, picture, ENCODED, SEVEN, head=label)

    given_ = whole(b"\r\n" + TEXT, FILE % (b"binary", OCTETS), b"Content-Transfer-Encoding: 8bit\r\n")
    made = encoded(given_)
    picture = made[made.index(b"Content-Type: image/png") :].partition(b"\r\n--b\r\n")[0]
    label = b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
    assert made == whole(label + QUOTED, picture, b"Content-Transfer-Encoding: 7bit\r\n")
    assert message_from_bytes(picture).get_payload(decode=True) == OCTETS
    assert b"\r\nContent-Transfer-Encoding: base64\r\n" in picture


def test_an_attached_mail_is_encoded_inside() -> None:
    mail = "From: Jörg <jörg@a.test>\r\nSubject: Grüße\r\n\r\n".encode() + TEXT
    made = encoded(TOP + mixed(b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + mail))
    parsed = message_from_bytes(made, policy=policy.default)
    attached = next(parsed.iter_attachments())
    assert attached["Content-Transfer-Encoding"] == "7bit"
    (inside,) = attached.iter_parts() if attached.is_multipart() and attached.get_payload() else ()
    assert inside["Subject"] == "Grüße"
    assert inside.get_payload(decode=True) == TEXT


@pytest.mark.parametrize("letters", range(60, 80))
def test_no_part_begins_where_a_long_line_is_broken(letters: int) -> None:
    text = "ü".encode() + b"x" * letters + b"--b\r\nContent-Type: text/html\r\n\r\n<b>\r\n--b--x\r\n"
    made = encoded(TOP + mixed(PLAIN + b"\r\n" + text, SEVEN))
    first, _ = message_from_bytes(made).get_payload()
    assert first.get_payload(decode=True) == text


def test_parts_of_a_digest_are_mails_unless_they_say_otherwise() -> None:
    made = encoded(TOP + mixed(b"\r\nSubject: y\r\n\r\n" + TEXT, kind=b"digest"))
    inside = b"Subject: y\r\nContent-Transfer-Encoding: quoted-printable\r\nMIME-Version: 1.0\r\n\r\n"
    assert b"--b\r\n\r\n" + inside + QUOTED in made


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ('Content-Disposition: attachment; filename="Gr\u00fc\u00dfe.pdf"; size=3', "Gr\u00fc\u00dfe.pdf"),
        ('Content-Disposition: attachment;\r\n filename="a \\"\u00fc\\".pdf"', 'a "\u00fc".pdf'),
        ("Content-Disposition: attachment; filename=\u00fc.pdf", "\u00fc.pdf"),
    ],
)
def test_names_of_files_become_ascii_and_stay_the_same(field: str, expected: str) -> None:
    made = encoded(TOP + mixed(field.encode() + b"\r\n\r\nabc\r\n"))
    (part,) = message_from_bytes(made).get_payload()
    assert isinstance(part, Message)
    assert part.get_filename() == expected
    assert part.get_payload() == "abc\r\n"


def test_a_description_outside_ascii_becomes_encoded_words() -> None:
    made = encoded(TOP + mixed("Content-Description: Grüße\r\n\r\nabc".encode()))
    assert b"Content-Description: =?utf-8?b?R3LDvMOfZQ==?=\r\n\r\nabc" in made


def test_octets_that_no_line_may_have_are_encoded_too() -> None:
    data = b"\x00\r\nlone\rand\nlong" + b"x" * 3000 + b" \r\n\xff"
    for kind in (b"application/octet-stream", b"text/plain", b"text/html"):
        made = encoded(TOP + mixed(b"Content-Type: %b\r\n\r\n%b" % (kind, data)))
        check_lines(made)
        assert made.isascii()
        (part,) = message_from_bytes(made).get_payload()
        assert isinstance(part, Message)
        assert part.get_payload(decode=True) == data


def test_what_nobody_reads_is_kept_as_far_as_it_is_ascii() -> None:
    made = encoded(TOP + mixed(SEVEN).replace(b"\r\n\r\n--b", "\r\n\r\nVör\r\n--b".encode(), 1) + "nách\r\n".encode())
    assert b"\r\n\r\nV??r\r\n--b\r\n" + SEVEN + b"\r\n--b--\r\nn??ch\r\n" in made


def nested(levels: int) -> bytes:
    body = b"\r\n" + TEXT
    for level in range(levels):
        body = mixed(body, boundary=b"n%d" % level)
    return TOP + body


REFUSED = {
    "no boundary": TOP + b"Content-Type: multipart/mixed\r\n\r\n--b\r\n\r\n" + TEXT,
    "two boundaries": TOP + b"Content-Type: multipart/mixed; boundary=b; boundary=c\r\n\r\n--b\r\n\r\n" + TEXT,
    "no part": TOP + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + TEXT,
    "no subtype": TOP + b"Content-Type: multipart\r\n\r\n" + TEXT,
    "two types": TOP + PLAIN + PLAIN + b"\r\n" + TEXT,
    "8-bit octets in base64": TOP + mixed(FILE % (b"base64", b"iVBOR\xe4w0KGgo=")),
    "8-bit octets in quoted-printable": TOP + b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + TEXT,
    "an unknown encoding": TOP + b"Content-Transfer-Encoding: x-uuencode\r\n\r\n" + TEXT,
    "an encoded multipart": TOP + mixed(b"\r\n" + TEXT, head=b"Content-Transfer-Encoding: base64\r\n"),
    "a signed part": TOP + mixed(PLAIN + b"\r\n" + TEXT, ENCODED, kind=b"signed"),
    "a signed part inside": TOP + mixed(mixed(PLAIN + b"\r\n" + TEXT, kind=b"signed", boundary=b"s")),
    "an encrypted part": TOP + mixed(PLAIN + b"\r\n" + TEXT, kind=b"encrypted"),
    "a fragment": TOP + b"Content-Type: message/partial; id=x; number=1\r\n\r\n" + TEXT,
    "too deep": nested(MAX_DEPTH + 1),
    "a header that is none": TOP + mixed(b"\xe4\xe4\xe4\r\n\r\nx"),
}


@pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_encoded_without_guessing_is_refused(raw: bytes) -> None:
    with pytest.raises(EnvelopeError) as caught:
        encoded(raw)
    assert caught.value.outcome.reply.enhanced == "5.6.3"


def test_many_levels_are_encoded() -> None:
    assert QUOTED in encoded(nested(MAX_DEPTH - 1))


ODD = [b"--b", b"--b--", b"--b \t", b"", b"\r\n", b"\xe4", b"x: \xc3\xa4", b"a=", b" ", SEVEN, ENCODED, TEXT, PLAIN]
LINES = st.lists(st.sampled_from(ODD) | st.binary(max_size=8), max_size=25)
HEADS = st.sampled_from([b"", PLAIN, FILE.partition(b"%b")[0] + b"8bit\r\n"])


@given(LINES)
def test_whatever_the_body_the_result_is_seven_bit_or_nothing(lines: list[bytes]) -> None:
    raw = TOP + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"\r\n".join(lines)
    try:
        made = in_seven_bits(raw)
    except EnvelopeError:
        return
    assert isinstance(made, bytes)
    assert made.isascii()


@given(st.lists(st.tuples(HEADS, st.binary(max_size=300)), min_size=1, max_size=5))
def test_every_reader_finds_the_same_octets_in_the_same_parts(parts: list[tuple[bytes, bytes]]) -> None:
    # The parser takes a bare CR or LF for a line end, too.
    bodies = [body.replace(b"\r", b"\r\n").replace(b"\n", b"\r\n").replace(b"\r\r\n", b"\r\n") for _, body in parts]
    raw = TOP + mixed(*(head + b"\r\n" + body for (head, _), body in zip(parts, bodies, strict=True)))
    made = in_seven_bits(raw)
    assert isinstance(made, bytes)
    check_lines(made)
    assert made.isascii()
    assert [*_leaves(message_from_bytes(raw))] == [*_leaves(message_from_bytes(made))] == bodies


def _leaves(message: Message) -> Iterator[bytes]:
    for part in message.walk():
        if not part.is_multipart():
            yield part.get_payload(decode=True)  # type: ignore[union-attr]  # a leaf has octets


# -- over SMTP

BARE = ("PIPELINING", "SIZE 10000000")
EIGHT = TOP + PLAIN + b"\r\n" + TEXT


@with_each_form
def test_a_server_without_8bitmime_gets_it_encoded_and_its_size_is_told(driver: object) -> None:
    with Peer(extensions=BARE) as peer:
        (outcome,) = send(peer, Envelope("a@a.test", ("b@b.test",), EIGHT)).values()
    assert isinstance(outcome, Delivered)
    (message,) = peer.messages
    expected = encoded(EIGHT)
    assert message.raw.replace(b"\r\n..", b"\r\n.") == expected
    assert b"MAIL FROM:<a@a.test> SIZE=%d" % len(expected) in peer.commands


@with_each_form
def test_a_header_and_a_body_are_both_rewritten_for_a_server_that_takes_neither(driver: object) -> None:
    raw = EIGHT.replace(b"Subject: x", "Subject: Grüße".encode())
    with Peer(extensions=BARE) as peer:
        (outcome,) = send(peer, Envelope("a@a.test", ("b@b.test",), raw, smtputf8=True)).values()
    assert isinstance(outcome, Delivered)
    expected = encoded(EIGHT).replace(b"Subject: x", b"Subject: =?utf-8?b?R3LDvMOfZQ==?=")
    assert peer.messages[0].raw.replace(b"\r\n..", b"\r\n.") == expected


@pytest.mark.parametrize("name", [b"DKIM-Signature", b"dkim-signature ", b"ARC-Message-Signature"])
def test_a_message_that_others_have_signed_bounces(name: bytes) -> None:
    with Peer(extensions=BARE) as peer:
        (outcome,) = send(peer, Envelope("a@a.test", ("b@b.test",), name + b": v=1; b=x\r\n" + EIGHT)).values()
    assert isinstance(outcome, Bounced)
    assert outcome.reply.enhanced == "5.6.3"
    assert "signed" in outcome.reply.text
    assert not peer.messages


def test_our_signature_is_of_what_the_server_gets() -> None:
    seen: list[tuple[bytes, bytes]] = []

    def sign(header: bytes, body: Callable[[], Iterator[bytes]] | None = None) -> bytes:
        seen.append((header, b"".join(body)))  # type: ignore[arg-type]  # it was rewritten
        return b"DKIM-Signature: ours\r\n"

    with Peer(extensions=BARE) as peer:
        send(peer, Envelope("a@a.test", ("b@b.test",), EIGHT, sign=sign))  # type: ignore[arg-type]  # it is never called without a body
    whole = peer.messages[0].raw.replace(b"\r\n..", b"\r\n.")
    assert [b"DKIM-Signature: ours\r\n" + b"".join(one) for one in seen] == [whole]
