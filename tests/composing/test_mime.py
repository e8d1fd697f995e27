"""Composing: any parser reads back what was given, and no header more."""

from collections import Counter
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.utils import getaddresses

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailbbgun.composing import mime
from mailbbgun.composing.mime import EVIL, Mailbox, compose, one_line, self_test
from mailbbgun.core.errors import InvalidInput

DATE = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
MIME = ["Content-Type", "Content-Transfer-Encoding", "MIME-Version"]
ANN = Mailbox("Ann Lee", "ann@example.com")


def composed(**given):
    parts = {
        "sender": ANN,
        "to": [ANN],
        "subject": "Hello",
        "text": "Hi",
        "message_id_header": "<1@mail.example.com>",
        "date": DATE,
    } | given
    return compose(**parts)


def head_names(raw):
    lines = raw.partition(b"\r\n\r\n")[0].split(b"\r\n")
    return Counter(line.split(b":")[0].decode() for line in lines if line[:1] not in b" \t")


def assert_clean(raw):
    assert raw.count(b"\r") == raw.count(b"\n") == raw.count(b"\r\n")
    assert b"\0" not in raw
    assert max(map(len, raw.split(b"\r\n"))) <= 998


# Everything a header may be asked to hold, and what attacks are made of.
nasty = st.sampled_from(
    [
        *EVIL,
        "=?",
        "?=",
        "=?utf-8?b?",
        "\r\n",
        "\n\n",
        "\r",
        "Bcc: x@y.z",
        '"',
        "\\",
        "<",
        ">",
        ",",
        ";",
        ":",
        " ",
        "  ",
        "\t",
        "ü",
        "😀",
        "e\u0301",
        "\x85",
        "\u2028",
    ]
)
texts = (
    st.lists(st.one_of(nasty, st.text(max_size=30), st.text(st.characters(codec="ascii"), max_size=60)), max_size=8)
    .map("".join)
    .filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text))
)
lines = texts.map(lambda text: "".join(c for c in text if one_line(c)))
bodies = texts.map(lambda text: text.replace("\0", ""))


@given(lines, lines, lines, bodies)
@example("=?UTF-8?Q?a=0ABcc:_evil?=", "=?UTF-8?Q?a=0ABcc:_evil?=", "=?UTF-8?Q?a=0ABcc:_evil?=", "")
@example(" x", "x ", "a  b", "From x\n.\n")
@example("x" * 256, 'a "quoted" name, with \\', "y" * 950, "z" * 5000)
def test_a_parser_reads_what_was_given_and_no_header_more(subject, name, value, text):
    name = name.strip()
    raw = composed(subject=subject, to=[Mailbox(name, "ben@example.com"), ANN], headers={"X-Custom": value}, text=text)
    assert_clean(raw)
    assert head_names(raw) == Counter(["From", "To", "Subject", "Date", "Message-ID", "X-Custom", *MIME])
    plain = message_from_bytes(raw, policy=policy.compat32)
    assert str(make_header(decode_header(unfolded(plain["Subject"])))) == subject
    assert str(make_header(decode_header(unfolded(plain["X-Custom"])))) == value
    modern = message_from_bytes(raw, policy=policy.default)
    assert modern["Subject"] == subject
    assert [address.addr_spec for address in modern["To"].addresses] == ["ben@example.com", "ann@example.com"]
    # The older parser: this Python's newer one puts a space between two encoded words of a name.
    assert str(make_header(decode_header(getaddresses([unfolded(plain["To"])])[0][0]))) == name
    assert modern.get_content().replace("\r\n", "\n") == normal(text)


def unfolded(value):
    return value.replace("\r\n", "")


def normal(text):
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text if text.endswith("\n") else text + "\n"


@given(bodies, bodies)
def test_text_and_html_both_survive(text, html):
    raw = composed(text=text, html=html)
    assert_clean(raw)
    assert raw.isascii()
    parsed = message_from_bytes(raw, policy=policy.default)
    assert parsed.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in parsed.iter_parts()] == ["text/plain", "text/html"]
    assert [part.get_content().replace("\r\n", "\n") for part in parsed.iter_parts()] == [normal(text), normal(html)]


@given(texts.filter(lambda text: not one_line(text) and any(c in text for c in "\r\n\0")))
def test_a_line_break_in_a_header_is_refused_or_encoded(text):
    for part in (
        {"subject": text},
        {"headers": {"X-Custom": text}},
        {"to": [Mailbox(text, "a@b.c")]},
        {"sender": Mailbox(text, "a@b.c")},
    ):
        raw = composed(**part)
        assert_clean(raw)
        assert "Bcc" not in message_from_bytes(raw)


@pytest.mark.parametrize(
    "given",
    [
        {"message_id_header": "<a@b>\r\nBcc: <x@y>"},
        {"to": [Mailbox("", "a@b.c>\r\nBcc: x@y.z")]},
        {"headers": {"X-A: b\r\nBcc": "x"}},
    ],
)
def test_a_value_that_would_break_out_of_its_header_is_refused_with_its_field(given):
    with pytest.raises(InvalidInput) as caught:
        composed(**given)
    assert list(caught.value.fields) == list(given)


def test_the_check_behind_the_encoders_refuses_each_kind_of_bad_bytes():
    good = composed()
    names = ["From", "To", "Subject", "Date", "Message-ID"]
    mime.check(good, names)
    for bad in (
        good + b"\r",
        good + b"bare\nline\r\n",
        good + b"\0\r\n",
        good + b"x" * 999 + b"\r\n",
        good[:-2],
        b"Bcc: evil@example.com\r\n" + good,
        b"MIME-Version: 1.0\r\n" + good,
        good.replace(b"Subject: Hello\r\n", b""),
    ):
        with pytest.raises(InvalidInput):
            mime.check(bad, names)


def test_bcc_is_in_no_header_and_reply_to_and_cc_are():
    parsed = message_from_bytes(
        composed(cc=[Mailbox("", "cis@example.com")], reply_to=[Mailbox("Help", "help@example.com")]),
        policy=policy.default,
    )
    assert (parsed["Cc"], parsed["Reply-To"], parsed["Bcc"]) == ("cis@example.com", "Help <help@example.com>", None)


def test_only_an_address_that_needs_it_makes_a_header_utf8():
    raw = composed(to=[Mailbox("Jörg", "jörg@xn--bcher-kva.example")], subject="Grüße")
    assert "<jörg@xn--bcher-kva.example>".encode() in raw
    assert composed(sender=Mailbox("Jörg", "j@example.com"), subject="Grüße", text="Grüße " * 100).isascii()


def test_encoded_words_keep_to_75_characters_and_lines_with_them_to_78():
    raw = composed(
        subject="😀 Grüße an alle " * 15,
        headers={"X-" + "L" * 48: "ü" * 300},
        to=[Mailbox("Ünïcödé " * 30, "a@b.c")] * 3,
    )
    for line in raw.partition(b"\r\n\r\n")[0].split(b"\r\n"):
        assert len(line) <= 78
        assert all(len(word) <= 75 for word in line.split() if word.startswith(b"=?"))


def test_long_plain_headers_fold_at_spaces_and_long_words_stay_whole():
    url = "https://example.com/" + "x" * 300
    raw = composed(subject="word " * 50 + "end", headers={"List-Unsubscribe": f"<{url}>, <mailto:off@example.com>"})
    assert f"List-Unsubscribe: <{url}>,\r\n <mailto:off@example.com>\r\n".encode() in raw
    assert message_from_bytes(raw, policy=policy.default)["Subject"] == "word " * 50 + "end"


def test_date_and_message_id_are_those_given():
    raw = composed()
    assert b"\r\nDate: Sat, 31 Jan 2026 12:00:00 +0000\r\nMessage-ID: <1@mail.example.com>\r\n" in raw
    assert composed() == raw


def test_this_python_passes_the_self_test():
    self_test()


def test_a_message_whose_recipients_are_all_hidden_has_an_empty_group_as_to():
    parsed = message_from_bytes(composed(to=[]), policy=policy.default)
    assert (parsed["To"], parsed["To"].addresses) == ("undisclosed-recipients:;", ())
    assert message_from_bytes(composed(to=[], cc=[ANN]))["To"] is None


@pytest.mark.parametrize(
    "name",
    [
        "References",
        "In-Reply-To",
        "list-unsubscribe",
        "List-Id",
        "List-Anything",
        "Feedback-ID",
        "X-Priority",
        "Auto-Submitted",
    ],
)
def test_a_structured_field_is_sent_as_it_is_with_single_blanks(name):
    raw = composed(headers={name: " \t one \t  =?two?=   three "})
    assert f"\r\n{name}: one =?two?= three\r\n".encode() in raw
    with pytest.raises(InvalidInput) as caught:
        composed(headers={name: "grün"})
    why = f"{name} is read by programs, so it takes ASCII only (RFC 2047 §5): 'ü' cannot be sent in it."
    assert caught.value.fields == {f"headers.{name}": [why]}


@pytest.mark.parametrize("length", [40, 75, 150])
def test_many_references_fold_between_them_and_stay_as_they_are(length):
    identifiers = [f"<{n}.{'x' * (length - len(f'<{n}.@example.com>'))}@example.com>" for n in range(50)]
    raw = composed(headers={"References": "\t ".join(identifiers)})
    assert_clean(raw)
    lines = raw.partition(b"References: ")[2].split(b"\r\nMIME-Version")[0].split(b"\r\nContent-Type")[0].split(b"\r\n")
    assert all(len(line) <= 78 or len(line.split()) == 1 for line in lines[1:])
    assert unfolded(message_from_bytes(raw, policy=policy.compat32)["References"]) == " ".join(identifiers)


@pytest.mark.parametrize(("name", "room"), [("References", 986), ("X-Token", 989)])
def test_a_header_without_spaces_goes_up_to_the_limit_of_a_line_and_not_beyond(name, room):
    assert f"\r\n{name}: {'x' * room}\r\n".encode() in composed(headers={name: "x" * room})
    assert f"\r\n {'x' * 997}\r\n".encode() in composed(headers={name: f"a {'x' * 997}"})
    for value, size, left in (("x" * (room + 1), room + 1, room), (f"a {'x' * 998} b", 998, 997)):
        with pytest.raises(InvalidInput) as caught:
            composed(headers={name: value})
        [why] = caught.value.fields[f"headers.{name}"]
        assert why.startswith(
            f"Has {size} octets without a space, and a line takes 998 (RFC 5322 §2.1.1), which leaves {left} for "
        )


@pytest.mark.parametrize("name", ["Comments", "Thread-Topic", "X-Unknown", "Organization"])
def test_free_text_is_encoded_where_it_must_be(name):
    raw = composed(headers={name: "Grüße  an\talle" * 90})
    assert_clean(raw)
    assert str(make_header(decode_header(unfolded(message_from_bytes(raw)[name])))) == "Grüße  an\talle" * 90
    assert f"\r\n{name}: plain text\r\n".encode() in composed(headers={name: "plain text"})


def test_keywords_are_encoded_one_by_one_so_that_their_commas_still_separate():
    raw = composed(headers={"Keywords": "grün, plain words,, =?odd?="})
    value = unfolded(message_from_bytes(raw)["Keywords"])
    assert [str(make_header(decode_header(part.strip()))) for part in value.split(",")] == [
        "grün",
        "plain words",
        "=?odd?=",
    ]
