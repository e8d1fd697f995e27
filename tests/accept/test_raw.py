"""Raw submissions: what is kept, what is added and left out, whom they are from and to, and what is refused."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbbgun.accept.accept import Acceptor
from mailbbgun.accept.attached import Attached
from mailbbgun.accept.fields import Options, Raw
from mailbbgun.accept.mime.raw import DECODED_SIZE, HEADER_SIZE, check_raw
from mailbbgun.accept.store import Store
from mailbbgun.attachments.inspection import Inspector
from mailbbgun.core.caller import ANYBODY, Caller, Identity, KeyKind
from mailbbgun.core.errors import IdempotencyMismatch, InvalidInput, QuotaExceeded, TooLarge
from mailbbgun.core.ids import new_id
from mailbbgun.messages import repo
from mailbbgun.messages.models import MESSAGES, Message
from mailbbgun.messages.publisher import Publisher
from mailbbgun.settings.load import load
from mailbbgun.templates.resolve import Templates

SETTINGS = load({"MAILBBGUN_HOSTNAME": "mail.example.com"})
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
DATE, MESSAGE_ID = b"Date: Sat, 31 Jan 2026 12:00:00 +0000\r\n", b"Message-ID: <1@mail.example.com>\r\n"
WHOLE = DATE + MESSAGE_ID + (
    b"DKIM-Signature: v=1; a=rsa-sha256; d=example.com;\r\n\tb=abc=\r\n"
    b"From: =?utf-8?q?J=C3=B6rg?= <shop@example.com>\r\n"
    b"To: ann@example.com,\r\n \"Lee, Bob\" <BOB@example.com>\r\nCc: cis@example.com (of the shop)\r\n"
    b"Subject: =?utf-8?b?R3LDvMOfZQ==?=\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
    b"\r\n.\r\n..dots\r\nGr\xc3\xbc\xc3\x9fe, and octets \xff\xfe \r\n\r\n"
)  # fmt: skip
TO = ("ann@example.com", "bob@example.com", "cis@example.com", "dot@example.com")


def checked(mime=WHOLE, to=("ann@example.com",), mail_from=None, caller=ANYBODY, options=None, settings=SETTINGS):
    return check_raw(Raw(mime=mime, recipients=to, mail_from=mail_from), options or Options(), settings, caller)


def composed(draft):
    return draft.compose(message_id_header="<1@mail.example.com>", date=NOW)


def wrong(*args, **options):
    with pytest.raises(InvalidInput) as caught:
        checked(*args, **options)
    return {name: " ".join(sentences) for name, sentences in caught.value.fields.items()}


def headed(*lines, body=b"hi\r\n"):
    return b"\r\n".join([b"From: shop@example.com", *lines, b"", body])


def test_a_whole_message_is_kept_byte_for_byte_and_what_people_look_for_is_read_from_it():
    draft = checked(to=TO)
    assert composed(draft) == WHOLE
    assert str(draft.sender) == "Jörg <shop@example.com>"
    assert (draft.subject, draft.message_id_header, draft.mail_from, draft.smtputf8) == (
        "Grüße",
        "<1@mail.example.com>",
        "shop@example.com",
        False,
    )
    assert draft.recipients == {
        "ann@example.com": "to",
        "bob@example.com": "to",
        "cis@example.com": "cc",
        "dot@example.com": "bcc",
    }


@pytest.mark.parametrize(("given", "expected"), [
    (headed(b"X: 1"), DATE + MESSAGE_ID + headed(b"X: 1")),
    (headed(b"date: Sat, 31 Jan 2026 13:00:00 +0100"), MESSAGE_ID + headed(b"date: Sat, 31 Jan 2026 13:00:00 +0100")),
    (headed(b"MESSAGE-id :", b" <2@example.com>"), DATE + headed(b"MESSAGE-id :", b" <2@example.com>")),
    (headed(b"X: 1").replace(b"\r\n", b"\n"), DATE + MESSAGE_ID + headed(b"X: 1")),
    (headed(b"X: 1", body=b"no end"), DATE + MESSAGE_ID + headed(b"X: 1", body=b"no end\r\n")),
    (b"From: shop@example.com\r\nX: no body\r\n", DATE + MESSAGE_ID + b"From: shop@example.com\r\nX: no body\r\n\r\n"),
    (b"From: shop@example.com", DATE + MESSAGE_ID + b"From: shop@example.com\r\n\r\n"),
], ids=["neither", "a date", "an id", "LF alone", "no last line end", "no empty line", "one line"])  # fmt: skip
def test_a_missing_date_or_message_id_is_put_before_the_rest(given, expected):
    assert composed(checked(given)) == expected


@pytest.mark.parametrize("hidden", [
    [b"Bcc: eve@example.com"], [b"bCC:", b" eve@example.com,", b"\tfay@example.com"],
    [b"Bcc : eve@example.com", b"BCC:"],
    [b"Resent-Bcc: eve@example.com"], [b"Bcc:eve@example.com, Bcc: fay@example.com"],
])  # fmt: skip
def test_bcc_is_taken_out_with_all_its_lines_and_lines_that_look_like_it_stay(hidden):
    kept = [b"X-Bcc: 1", b"To: ann@example.com", b" Bcc: no header"]
    body = b"Bcc: in the body\r\n"
    assert composed(checked(headed(*hidden, *kept, body=body))) == DATE + MESSAGE_ID + headed(*kept, body=body)
    assert composed(checked(headed(*kept, *hidden, body=body))) == DATE + MESSAGE_ID + headed(*kept, body=body)


_LINES = [b"Bcc: e@example.com", b"X: 1", b" folded", b"\tbcc: x@y.z", b"bcc : z", b"To: a@example.com"]


@given(st.lists(st.sampled_from(_LINES), max_size=8), st.binary(max_size=40))
def test_no_bcc_leaves_and_nothing_else_changes_whatever_stands_around_it(lines, body):
    body = body.replace(b"\r", b"").replace(b"\0", b"").replace(b"\n", b"\r\n") + b"\r\n"
    given = headed(b"A: 1", *lines, body=body)
    sent, rest = parted(composed(checked(given)))
    assert rest == body
    assert sent[2:] == [field for field in parted(given)[0] if not field.lower().startswith(b"bcc")]


def parted(message):
    """Return the header's fields, each on one line, and the body."""
    head, _, body = message.partition(b"\r\n\r\n")
    return head.replace(b"\r\n ", b"~").replace(b"\r\n\t", b"~").split(b"\r\n"), body


@pytest.mark.parametrize(("mime", "sentence"), [
    (b"", "0 addresses in its From"), (b"\r\nFrom: shop@example.com\r\n\r\nhi", "0 addresses in its From"),
    (headed()[:-4] + b"a\nb\r\n", "a CR or an LF alone"), (headed()[:-4] + b"a\rb\r\n", "a CR or an LF alone"),
    (headed(body=b"\0"), "NUL"),
    (headed(body=b"x" * 999), "more than 998 octets"), (headed(b"no header"), "'no header'"), (headed(b": x"), "': x'"),
    (b" folded\r\n" + headed(), "' folded'"), (b"From nobody Sat Jan 31\r\n" + headed(), "'From nobody Sat Jan 31'"),
    (headed(b"From: eve@example.com"), "2 From headers"), (headed(b"Subject: a", b"subject: b"), "2 Subject headers"),
    (headed(b"Sender: a@example.com", b"SENDER : b@example.com"), "2 Sender headers"),
    (headed(b"X: \xe4"), "neither ASCII nor UTF-8"),
    (headed(b"Message-ID: <" + b"x" * 250 + b"@example.com>"), "264 characters"),
    (headed(b"Message-ID: "), "0 characters"),
    (headed(*[b"X-%d: %s" % (n, b"x" * 900) for n in range(HEADER_SIZE // 900 + 1)]), "262144 are the most"),
    (b"From: \r\n\r\n", "0 addresses"), (b"From: a@example.com, b@example.com\r\n\r\n", "2 addresses"),
    (b"From: <eve@example.com> <a@example.com>\r\n\r\n", "has < outside of quotes"),
    (b"From: \"Eve <a@example.com>\r\n\r\n", 'has " outside'),
    (b"From: nobody\r\n\r\n", "it has no @-sign"), (b"From: a@example..com\r\n\r\n", "Not a valid"),
])  # fmt: skip
def test_what_is_no_message_or_could_be_read_in_two_ways_is_refused_with_the_reason(mime, sentence):
    assert sentence in next(iter(wrong(mime).values()))


def test_a_message_that_is_too_large_is_refused_with_the_limit():
    with pytest.raises(TooLarge, match="1025 bytes, and 1024 are the most"):
        checked(headed(body=b"x" * 1025)[-1025:], settings=replace(SETTINGS, MAX_BODY_SIZE=1024))


@pytest.mark.parametrize(("header", "sender"), [
    (b"shop@example.com", "shop@example.com"), (b"(a (nested) comment) shop@example.com (Shop)", "shop@example.com"),
    (b"\"Lee, \\\"Ann\\\"\"\r\n <ann@B\xc3\x9cCHER.example>", 'Lee, "Ann" <ann@xn--bcher-kva.example>'),
    (b"=?utf-8?b?5bGx55Sw?= =?utf-8?b?IOWkqumDjg==?= <a@example.com>", "山田 太郎 <a@example.com>"),
    (b"=?no-such-charset?q?x?= <a@example.com>", "=?no-such-charset?q?x?= <a@example.com>"),
    (b"=?utf-8?q?a=0D=0Ab=00c?= <a@example.com>", "a  b c <a@example.com>"), (b"<a@example.com>", "a@example.com"),
])  # fmt: skip
def test_from_is_read_as_people_read_it(header, sender):
    assert str(checked(b"From: " + header + b"\r\n\r\nhi").sender) == sender


@pytest.mark.parametrize(("mime", "to", "mail_from", "expected"), [
    (headed(), ["ann@example.com"], None, False), (headed(b"X: \xc3\xa4"), ["ann@example.com"], None, True),
    (headed(b"Bcc: j\xc3\xb6rg@example.com"), ["ann@example.com"], None, False),
    (headed(), ["jörg@example.com"], None, True),
    (headed(), ["ann@bücher.example"], None, False), (headed(body=b"\xc3\xa4"), ["ann@example.com"], None, False),
    (headed(), ["ann@example.com"], "jörg@example.com", True),
])  # fmt: skip
def test_smtputf8_is_asked_for_where_an_address_or_the_header_needs_it(mime, to, mail_from, expected):
    assert checked(mime, to, mail_from).smtputf8 is expected


@pytest.mark.parametrize(("to", "sentence"), [
    ((), "Recipients are needed"), (("nobody",), "'nobody': Not a valid"), ((" ",), "Recipients are needed"),
    (tuple(f"u{n}@example.com" for n in range(101)), "More than 100 "),
    ((", ".join(f"u{n}@example.com" for n in range(101)),), "More than 100 "),
    (("ann@simulator",), "only test keys may send to it"),
])  # fmt: skip
def test_recipients_are_those_of_the_envelope_and_are_checked_as_in_fields(to, sentence):
    assert sentence in wrong(headed(b"To: ann@example.com"), to)["recipients"]


def test_a_mailbox_gets_one_copy_however_it_is_written():
    to = ("Ann@Example.com", "ann@example.com", "b@BÜCHER.example", "b@xn--bcher-kva.example")
    assert list(checked(to=to).recipients) == ["Ann@example.com", "b@xn--bcher-kva.example"]


TENANT = new_id()
SHOP_ONLY = Caller(TENANT, senders=frozenset({"shop@example.com", "sub.example.com"}))


@pytest.mark.parametrize(("lines", "mail_from", "name", "sentence"), [
    ([], "eve@example.com", "mail_from", "may not send as eve@example.com"), ([], "", "mail_from", "nobody (<>)"),
    ([b"Sender: eve@example.com"], None, "from", "may not send as eve@example.com, whom Sender names"),
    ([b"Resent-From: shop@example.com, eve@example.com"], None, "from", "eve@example.com, whom Resent-From names"),
    ([b"Resent-Sender: \"shop@example.com\" <eve@example.com>"], None, "from", "whom Resent-Sender names"),
    ([b"Resent-From: eve@example.com", b"Resent-From: shop@example.com"], None, "from",
     "eve@example.com, whom Resent-From names"),
    ([b"Sender: shop@example.com, eve@example.com"], None, "from", "eve@example.com, whom Sender names"),
    ([b"Sender: <a@b"], None, "from", "Sender: "), ([], "Eve <eve@example.com>", "mail_from", "without a name"),
])  # fmt: skip
def test_a_key_with_senders_sends_as_these_only_whatever_header_or_envelope_says_it(lines, mail_from, name, sentence):
    assert sentence in wrong(headed(*lines), mail_from=mail_from, caller=SHOP_ONLY)[name]


def test_a_key_with_senders_sends_as_these():
    lines = [b"Sender: x@SUB.example.com", b"Resent-From: shop@example.com (me)"]
    assert (
        checked(headed(*lines), mail_from="bounces@sub.example.com", caller=SHOP_ONLY).mail_from
        == "bounces@sub.example.com"
    )
    assert checked(headed(b"Sender: anything at all"), mail_from="").mail_from == ""


@pytest.mark.parametrize(("caller", "name", "sentence"), [
    (Caller(TENANT, senders=frozenset({"other.example"})), "from", "may not send as shop@example.com"),
    (Caller(TENANT, identity=Identity(allowed=frozenset({"other.example"}))), "from",
     "No SMTP account of yours sends as shop@example.com."),
    (Caller(TENANT, kind=KeyKind.TEAM, guests=frozenset({"guest@example.com"})), "recipients", "guests only"),
])  # fmt: skip
def test_the_rules_of_keys_and_accounts_are_those_of_fields(caller, name, sentence):
    assert sentence in wrong(headed(), caller=caller)[name]


def test_provider_headers_are_checked_as_in_fields():
    assert "sends mail to others" in wrong(headed(b"x-mc-BccAddress: eve@example.com"))["mime"]
    assert (
        "x-smtpapi must be a JSON object"
        in wrong(headed(b"X-SMTPAPI:", b' {"to": ["eve@example.com"]', b" =?utf-8?q?x?=}"))["mime"]
    )
    assert "may send mail to others" in wrong(headed(b"X-SMTPAPI:", b' {"to":', b' ["eve@example.com"]}'))["mime"]
    returned = headed(b"X-MC-ReturnPathDomain: other.example")
    assert "this API key is limited in them (senders)" in wrong(returned, caller=SHOP_ONLY)["mime"]
    assert composed(checked(returned)).endswith(returned)


def test_options_are_checked_with_the_rest_and_the_error_names_all_faults():
    told = wrong(headed(b"no header"), ("nobody",), options=Options(tags=["x"] * 11, priority=10, metadata={"a": []}))
    assert set(told) == {"mime", "recipients", "tags", "priority", "metadata"}


@pytest.mark.parametrize("line", [
    b"Subject: " + b"=?a?q?" * 40_000, b"Subject: " + b"=?utf-8?q?=?=" * 15_000, b"From2: " + b"(" * 200_000,
    b"Cc: " + b"((a@b," * 30_000,
    b"To: " + b"\"a@b.c, " * 25_000, b"X:\r\n" + b" x\r\n" * 50_000 + b" x", b"\r\n".join([b"a:"] * 50_000),
    b"Cc: " + b"<a@b.c>," * 25_000,
])  # fmt: skip
def test_no_header_takes_long_to_check(line):
    # What is not linear would take hours; the run's own limit finds it.
    folded = (
        b"\r\n ".join(line[start : start + 900] for start in range(0, len(line), 900)) if b"\r\n" not in line else line
    )
    assert composed(checked(headed(folded))).endswith(headed(folded))
    assert DECODED_SIZE < 10_000


@pytest.fixture
def acceptor(services):
    store, publisher = Store(services.db, 86_400), Publisher(services.db, services.queue)
    yield Acceptor(
        services.settings,
        store,
        publisher,
        Attached(services, Inspector(services)),
        Templates(services.db),
    )
    store.close()
    publisher.close()


def test_a_raw_message_is_stored_as_any_other_and_one_key_makes_one(services, acceptor):
    raw = Raw(mime=WHOLE, recipients=TO, mail_from="bounces@example.com")
    options = Options(tags=["a", "b", "a"], metadata={"order": 1}, priority=9, idempotency_key="once")
    first = acceptor.accept(raw, ANYBODY, options).result()
    again = acceptor.accept(raw, ANYBODY, options).result()
    assert (again.id, again.replayed, again.subject) == (first.id, True, "Grüße")
    for other in (replace(raw, mime=WHOLE + b"x"), replace(raw, recipients=TO[:1]), replace(raw, mail_from=None)):
        with pytest.raises(IdempotencyMismatch):
            acceptor.accept(other, ANYBODY, options).result()
    with pytest.raises(IdempotencyMismatch):
        acceptor.accept(raw, ANYBODY, replace(options, priority=1)).result()
    with services.db.read() as session:
        found = session.query(Message).one()
        assert str(found.id) == first.id
        assert (found.raw, found.size, found.tags, found.meta, found.priority) == (
            WHOLE,
            len(WHOLE),
            ["a", "b"],
            {"order": 1},
            9,
        )
        assert (found.sender, found.mail_from, found.message_id_header) == (
            "Jörg <shop@example.com>",
            "bounces@example.com",
            "<1@mail.example.com>",
        )
        details = repo.details(session, found.tenant_id, found.id)
    assert (details["to"], details["cc"], details["bcc"]) == (
        ["ann@example.com", "bob@example.com"],
        ["cis@example.com"],
        ["dot@example.com"],
    )


def test_an_added_message_id_is_the_messages_id_and_an_added_date_its_moment(services, acceptor):
    accepted = acceptor.accept(Raw(mime=headed(), recipients=["ann@example.com"]), ANYBODY).result()
    with services.db.read() as session:
        found = session.query(Message).one()
        assert found.message_id_header == f"<{accepted.id}@mail.example.com>"
        assert bytes(found.raw).endswith(f"Message-ID: {found.message_id_header}\r\n".encode() + headed())


def test_a_raw_message_counts_for_its_tenants_quota(services, acceptor):
    caller = Caller(new_id(), messages_per_day=1)
    raw = Raw(mime=headed(), recipients=["ann@example.com"])
    acceptor.accept(raw, caller).result()
    with pytest.raises(QuotaExceeded):
        acceptor.accept(raw, caller).result()


@pytest.mark.parametrize("size", [100, 1_500_000])
def test_octets_of_any_size_are_read_as_they_were_given(services, acceptor, size):
    mime = (
        WHOLE + b"\x80\xff\\ '%s" * (size // 40) + b"\r\n" if size < 500 else WHOLE + b"\x80\xff\\'%s\r\n" * (size // 8)
    )
    accepted = acceptor.accept(Raw(mime=mime, recipients=["ann@example.com"]), ANYBODY).result()
    with services.db.read() as session:
        assert bytes(session.query(Message.raw).scalar()) == mime
    assert accepted.status == "PENDING"


def test_every_column_of_messages_but_the_status_has_its_value_from_accept(services):
    class Looking(Store):
        def pending(self, rows, claim, then):
            kept.append(rows)
            return super().pending(rows, claim, then)

    kept: list = []
    store, publisher = Looking(services.db, 86_400), Publisher(services.db, services.queue)
    Acceptor(
        services.settings,
        store,
        publisher,
        Attached(services, Inspector(services)),
        Templates(services.db),
    ).accept(Raw(mime=headed(), recipients=["ann@example.com"]), ANYBODY)
    store.close()
    publisher.close()
    # A message without a trace costs nothing for it.
    assert set(kept[0].message) == {column.name for column in MESSAGES.columns} - {"status", "traceparent"}
