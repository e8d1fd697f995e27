"""Signatures are valid for two verifiers that others wrote, and break when the message changes."""

import re
from base64 import b64decode, b64encode
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from dkim.canonicalization import Relaxed
from hypothesis import example, given
from hypothesis import strategies as st

from mailbbgun.domains import dkim, keys
from mailbbgun.domains.dkim import SigningKey, body_digest, relaxed_body, signature_fields
from mailbbgun.domains.dns.records import key_name
from mailbbgun.domains.signing import Signer
from mailbbgun.smtp.adapting.adapt import signed as with_signature
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.spooled import body_of, header_of, spool
from tests.domains.verifiers import by_dkimpy, by_mail_dkim

DOMAIN, SIGNED_AT = "example.com", 1_764_360_000
PAIRS = keys.new_pairs(datetime(2026, 11, 28, tzinfo=UTC))
KEYS = [SigningKey(DOMAIN, pair.selector, keys.private_key(pair.private)) for pair in PAIRS]
ZONE = {key_name(pair.selector, DOMAIN): keys.record_value(pair.algorithm, pair.public) for pair in PAIRS}
RSA, ED25519 = (pair.selector for pair in PAIRS)

HEADER = (
    b"From: Ann <ann@example.com>\r\nTo: bob@example.org,\r\n\tcarl@example.org\r\n"
    b"Subject:  Your   order \r\n of  Friday\r\n\r\n"
)
BODIES = {
    "plain": b"Hello,\r\nall is well.\r\n",
    "empty": b"",
    "one empty line": b"\r\n",
    "many empty lines at the end": b"Hello\r\n\r\n \r\n\t\r\n\r\n",
    "only blanks": b"   \r\n\t\r\n",
    "blanks inside and at the ends of lines": b"  a  \t b\t\r\n\tc   \r\n\r\n d\r\n",
    "dots": b".\r\n..a\r\n.b\r\n",
    "8 bit": "Grüße aus Köln, 日本 🎉\r\n".encode() + bytes(range(128, 256)) + b"\r\n",
    "long lines": b"x" * 998 + b"\r\n" + b" y" * 499 + b"\r\n",
    "no line end at the end": b"a\r\nb",
    "large": (b"All work and no  play\t\r\n" * 40 + b"\r\n") * 500,
}


def signed(message: bytes, given=KEYS) -> bytes:
    header = header_of(message)
    return signature_fields(header, body_digest([message[len(header) :]]), given, SIGNED_AT) + message


def valid(message: bytes) -> dict[str, bool]:
    return by_dkimpy(message, ZONE)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_both_signatures_of_any_body_are_valid_for_both_verifiers(body):
    message = signed(HEADER + body)
    # What is sent always ends in CRLF.
    sent = message if message.endswith(b"\r\n") else message + b"\r\n"
    assert valid(sent) == {RSA: True, ED25519: True}
    assert by_mail_dkim(sent, ZONE)[RSA] == "pass"


FOLDED = b"From: a@example.com\r\nReferences: " + b"\r\n ".join(b"<%d@x.test>" % one for one in range(50)) + b"\r\n"


@pytest.mark.parametrize(
    "header",
    [
        b"From: a@example.com\r\n",
        FOLDED,
        b"FROM:a@example.com\r\nsubject:\r\nTo: \t \r\n",
        "From: Jörg <jörg@example.com>\r\nSubject: Grüße  \t aus\r\n Köln\r\n".encode(),
        b"Received: from x\r\nReceived: from y\r\nFrom: a@example.com\r\nComments: c\r\nList-Id: l\r\nList-Id: k\r\n",
        b"From: a@example.com\r\nX: " + b"y" * 998 + b"\r\nSubject: a\x0bb\x0c c\r\n",
        b"From: a@x.test\r\nList-Unsubscribe: <https://x/u>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n",
    ],
)
def test_any_header_can_be_signed(header):
    message = signed(header + b"\r\nbody\r\n")
    assert valid(message) == {RSA: True, ED25519: True}
    assert by_mail_dkim(message, ZONE)[RSA] == "pass"
    added = message[: message.index(header)].decode()
    assert max(map(len, added.splitlines())) <= 78
    assert added.endswith("\r\n")


@pytest.mark.parametrize("name", dkim.OVERSIGNED)
def test_a_field_that_is_added_later_breaks_the_signatures(name):
    message = signed(HEADER + b"Hello\r\n")
    fields = message[: message.index(HEADER)]
    added = fields + name.title().encode() + b": forged\r\n" + message[len(fields) :]
    assert valid(added) == {RSA: False, ED25519: False}
    assert by_mail_dkim(added, ZONE)[RSA] != "pass"


@pytest.mark.parametrize(("before", "after"), [
    (b"ann@", b"eve@"), (b"Friday", b"Monday"), (b"Hello", b"Hallo"), (b"Hello\r\n", b"Hello\r\nBye\r\n"),
])  # fmt: skip
def test_a_change_of_what_is_signed_breaks_the_signatures(before, after):
    message = signed(HEADER + b"Hello\r\n")
    assert valid(message.replace(before, after)) == {RSA: False, ED25519: False}


def test_what_servers_do_on_the_way_breaks_nothing():
    message = signed(HEADER + b"Hello  you\r\n\r\n")
    on_its_way = b"Return-Path: <b@x.test>\r\nReceived: by x.test\r\n" + message.replace(b"Hello  you", b"Hello you \t")
    assert valid(on_its_way.replace(b"Subject:  Your   order \r\n of", b"SUBJECT: Your order\r\n\t of")) == {
        RSA: True,
        ED25519: True,
    }


def test_the_same_message_and_time_make_the_same_octets_and_another_time_others():
    message = HEADER + b"Hello\r\n"
    assert signed(message) == signed(message)
    header = header_of(message)
    digest = body_digest([message[len(header) :]])
    assert signature_fields(header, digest, KEYS, SIGNED_AT) != signature_fields(header, digest, KEYS, SIGNED_AT + 1)


def test_a_message_that_its_sender_has_signed_for_the_domain_is_not_signed_again():
    message = signed(HEADER + b"Hello\r\n")
    assert signed(message) == message
    other = message.replace(b"d=example.com;", b"d=example.org;")
    assert signed(other) != other
    spelled = HEADER.replace(b"To:", b"dkim-signature : v=1;\r\n\t a=x; D=x; d \t=\r\n Example.COM; s=y; b=z\r\nTo:")
    assert signed(spelled) == spelled
    subdomain = HEADER.replace(b"To:", b"DKIM-Signature: v=1; d=mail.example.com; b=z\r\nTo:")
    assert signed(subdomain) != subdomain


def test_a_message_without_an_empty_line_is_signed_as_one_without_a_body():
    message = b"From: a@example.com\r\nSubject: x\r\n"
    assert valid(signed(message) + b"\r\n") == {RSA: True, ED25519: True}


# Bodies with CRLF line ends, of few different octets, so that the rules meet each other.
BODY = st.lists(st.sampled_from([b"a", b"b", b" ", b"  ", b"\t", b".", b"\r\n", b"\r\n\r\n", b"\xff"]), max_size=40)


@given(BODY.map(b"".join), st.lists(st.integers(0, 60), max_size=6))
@example(b"a \r\n\r\nb", [1, 2, 3, 4, 5])
def test_a_body_in_any_blocks_has_the_relaxed_form_that_dkimpy_makes_of_it(body, cuts):
    places = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    whole = body if not body or body.endswith(b"\r\n") else body + b"\r\n"
    assert b"".join(relaxed_body(body[start:end] for start, end in pairwise(places))) == Relaxed.canonicalize_body(
        whole
    )


# A VT stands between letters: at the end of a value dkimpy takes it for a blank, which it is not.
NAME = st.sampled_from([b"From", b"subject", b"TO", b"X-Y"])
VALUE = st.lists(st.sampled_from([b"a", b":", b" ", b"\t", b"\r\n ", b"\r\n\t", b"\xc3\xa4", b"a\x0bb"]), max_size=20)


@given(st.lists(st.tuples(NAME, VALUE.map(b"".join)), max_size=6))
def test_a_header_has_the_relaxed_form_that_dkimpy_makes_of_it(fields):
    header = b"".join(b"%b:%b\r\n" % one for one in fields)
    ours = [(name, dkim._canonical(whole).partition(b":")[2] + b"\r\n") for name, whole in dkim.split(header)]
    assert ours == Relaxed.canonicalize_headers([(name, value + b"\r\n") for name, value in fields])


@given(st.binary(max_size=300).filter(lambda body: body.count(b"\r\n") == body.count(b"\r") == body.count(b"\n")))
def test_any_octets_can_be_signed(body):
    sent = body if body.endswith(b"\r\n") or not body else body + b"\r\n"
    assert valid(signed(HEADER + body)[: -len(body) or None] + sent) == {RSA: True, ED25519: True}


def test_long_runs_of_blanks_take_no_more_than_linear_work():
    # 25,000 lines of 990 blanks: quadratic work would take minutes.
    body = (b" " * 990 + b"x\r\n") * 25_000
    assert b"".join(relaxed_body([body])) == b" x\r\n" * 25_000


# RFC 8463, appendix A: its message, its Ed25519 signature and the public key.
RFC_8463 = b"""DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
""".replace(b"\n", b"\r\n")


def test_the_example_of_rfc_8463_has_the_body_hash_and_the_signature_that_we_compute():
    header = header_of(RFC_8463)
    assert b64encode(body_digest([RFC_8463[len(header) :]])) == b"2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="
    fields = {name: dkim._canonical(whole) for name, whole in dkim.split(header)}
    unsigned, _, signature = fields.pop(b"dkim-signature").partition(b" b=")
    names = (b"from", b"to", b"subject", b"date", b"message-id")
    data = b"".join(fields[name] + b"\r\n" for name in names) + unsigned + b" b="
    public = Ed25519PublicKey.from_public_bytes(b64decode(b"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="))
    digest = dkim.hashlib.sha256(data).digest()
    public.verify(b64decode(re.sub(rb"\s", b"", signature)), digest)


def test_a_message_in_a_file_gets_the_signature_that_it_has_in_memory(tmp_path):
    message = HEADER + BODIES["large"] * 20
    with spool([message[start : start + 1000] for start in range(0, len(message), 1000)], tmp_path) as spooled:
        assert b"".join(body_of(spooled)) == b"".join(body_of(message))
        signer = Signer(KEYS, SIGNED_AT, body_digest(body_of(spooled)))
        in_file = Envelope("a@x.test", ("b@x.test",), spooled, sign=signer)
        sent = with_signature(in_file).raw
        assert b"".join(sent.octets()) == signed(message)
    signer = Signer(KEYS, SIGNED_AT, body_digest(body_of(message)))
    in_memory = Envelope("a@x.test", ("b@x.test",), message, sign=signer)
    assert with_signature(in_memory).raw == signed(message)
    assert valid(signed(message)) == {RSA: True, ED25519: True}
