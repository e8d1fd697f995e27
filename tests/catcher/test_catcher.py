"""Messages to the mail catcher, through real SMTP: which are kept, and which are refused."""

import resource
import smtplib
from email import message_from_bytes
from pathlib import Path

import pytest

from tests.catcher.conftest import MEGABYTE, Catcher, Raw


def test_a_message_is_kept_as_sent_with_its_envelope_on_top(catcher: Catcher) -> None:
    with catcher.smtp() as smtp:
        smtp.sendmail(
            "a@b.test", ["c@d.test", "e@f.test"], b"Subject: hi\r\nTo: someone else\r\n\r\n.dot\r\n..\r\nend\r\n"
        )
    top = b"X-Envelope-From: a@b.test\nX-Envelope-To: c@d.test\nX-Envelope-To: e@f.test\n"
    assert catcher.kept() == [top + b"Subject: hi\nTo: someone else\n\n.dot\n..\nend\n"]
    assert list((catcher.mail / "tmp").iterdir()) == []


def test_an_empty_message_from_nobody_is_kept(catcher: Catcher) -> None:
    with Raw(catcher.port) as raw:
        assert raw.say(b"EHLO client.test").startswith(b"250")
        assert raw.say(b"MAIL FROM:<>").startswith(b"250")
        assert raw.say(b"RCPT TO:<c@d.test>").startswith(b"250")
        assert raw.say(b"DATA").startswith(b"354")
        assert raw.say(b".").startswith(b"250")
    assert catcher.kept() == [b"X-Envelope-From: <>\nX-Envelope-To: c@d.test\n"]


def test_it_offers_what_it_does(catcher: Catcher) -> None:
    with catcher.smtp() as smtp:
        smtp.ehlo()
        assert set(smtp.esmtp_features) == {"size", "8bitmime", "smtputf8", "pipelining", "help"}
        assert smtp.esmtp_features["size"] == str(35 * MEGABYTE)


def test_pipelined_transactions_are_answered_one_by_one(catcher: Catcher) -> None:
    transaction = b"MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n"
    with Raw(catcher.port) as raw:
        raw.say(b"EHLO client.test")
        raw.link.sendall(transaction)
        assert [raw.reply()[:3] for _ in range(3)] == [b"250", b"250", b"354"]
        raw.link.sendall(b"Subject: 1\r\n\r\n1\r\n.\r\n" + transaction)
        assert [raw.reply()[:3] for _ in range(4)] == [b"250", b"250", b"250", b"354"]
        raw.link.sendall(b"Subject: 2\r\n\r\n2\r\n.\r\nQUIT\r\n")
        assert [raw.reply()[:3] for _ in range(2)] == [b"250", b"221"]
    assert len(catcher.kept()) == 2


SMUGGLED = {
    "lflf": b"\n.\n", "crcr": b"\r.\r", "crlf": b"\r.\n", "lfcr": b"\n.\r", "lfcrlf": b"\n.\r\n",
    "crlflf": b"\r\n.\n", "crcrlf": b"\r.\r\n", "crlfcr": b"\r\n.\r", "null-before": b"\r\n\x00.\r\n",
    "null-after": b"\r\n.\x00\r\n", "crcrlfcrcrlf": b"\r\r\n.\r\r\n",
}  # fmt: skip


@pytest.mark.parametrize("end", SMUGGLED.values(), ids=SMUGGLED)
def test_no_other_end_of_data_smuggles_a_message_in(shared: Catcher, end: bytes) -> None:
    second = b"MAIL FROM:<evil@x.test>\r\nRCPT TO:<v@y.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n"
    with Raw(shared.port) as raw:
        raw.begin_data()
        raw.link.sendall(b"Subject: t\r\n\r\nbody" + end + second)
        assert raw.reply().startswith(b"550 5.5.2")
        assert raw.say(b"NOOP").startswith(b"250"), "exactly one reply"
    assert shared.kept() == []


def test_a_message_announced_too_big_is_refused_before_it_is_sent(shared: Catcher) -> None:
    with Raw(shared.port) as raw:
        raw.say(b"EHLO client.test")
        assert raw.say(b"MAIL FROM:<a@b.test> SIZE=%d" % (35 * MEGABYTE + 1)).startswith(b"552")
        assert raw.say(b"MAIL FROM:<a@b.test> SIZE=%d" % (35 * MEGABYTE)).startswith(b"250")


def test_a_message_that_grows_too_big_is_refused_and_the_connection_lives(shared: Catcher) -> None:
    with Raw(shared.port) as raw:
        raw.begin_data()
        block = (b"x" * 998 + b"\r\n") * 1000
        for _ in range(37):
            raw.link.sendall(block)
        assert raw.say(b".").startswith(b"552")
        assert raw.say(b"NOOP").startswith(b"250")
    assert shared.kept() == []


def test_a_line_that_never_ends_takes_no_memory(shared: Catcher) -> None:
    before = shared.peak_memory()
    with Raw(shared.port) as raw:
        raw.begin_data()
        for _ in range(100):
            raw.link.sendall(b"x" * MEGABYTE)
        assert raw.say(b"\r\n.").startswith(b"500")
        assert raw.say(b"NOOP").startswith(b"250")
    assert shared.peak_memory() - before < 20 * MEGABYTE
    assert shared.kept() == []


@pytest.mark.parametrize(("length", "answer"), [(998, b"250"), (1000, b"500")])
def test_lines_have_at_most_998_characters(catcher: Catcher, length: int, answer: bytes) -> None:
    with Raw(catcher.port) as raw:
        raw.begin_data()
        assert raw.say(b"x" * length + b"\r\n.").startswith(answer)


def test_an_endless_command_is_refused(shared: Catcher) -> None:
    with Raw(shared.port) as raw:
        raw.say(b"EHLO client.test")
        assert raw.say(b"NOOP " + b"x" * MEGABYTE).startswith(b"500")
        assert raw.say(b"NOOP").startswith(b"250")


def test_the_recipient_after_the_thousandth_is_asked_to_come_again(shared: Catcher) -> None:
    with Raw(shared.port) as raw:
        raw.say(b"EHLO client.test")
        raw.say(b"MAIL FROM:<a@b.test>")
        raw.link.sendall(b"".join(b"RCPT TO:<r%d@d.test>\r\n" % n for n in range(1001)))
        replies = [raw.reply() for _ in range(1001)]
    assert {reply[:3] for reply in replies[:-1]} == {b"250"}
    assert replies[-1].startswith(b"452 4.5.3")


def test_addresses_cannot_forge_headers(shared: Catcher) -> None:
    with Raw(shared.port) as raw:
        raw.say(b"EHLO client.test")
        assert raw.say(b'MAIL FROM:<"a\rX-Evil: 1"@b.test>').startswith(b"553")
        assert raw.say(b"MAIL FROM:<\xff\xfe@b.test> SMTPUTF8").startswith(b"553")


def test_internationalised_addresses_need_smtputf8_and_are_kept(catcher: Catcher) -> None:
    with Raw(catcher.port) as raw:
        raw.say(b"EHLO client.test")
        assert raw.say("MAIL FROM:<jürgen@bücher.test>".encode()).startswith(b"553 5.6.7")
    with catcher.smtp() as smtp:
        smtp.sendmail(
            "jürgen@bücher.test", ["Ω@d.test"], "Subject: grüße\r\n\r\nß\r\n".encode(), ["SMTPUTF8", "BODY=8BITMIME"]
        )
    (content,) = catcher.kept()
    assert content == "X-Envelope-From: jürgen@bücher.test\nX-Envelope-To: Ω@d.test\nSubject: grüße\n\nß\n".encode()


def test_each_message_is_one_log_line_that_nobody_can_forge(catcher: Catcher) -> None:
    with catcher.smtp() as smtp:
        subject = b"=?utf-8?q?h=C3=A9=0A2026-01-01T00:00:00Z_info_forged=1B[2J?="
        smtp.sendmail(
            "a@b.test", [f"r{n}@d.test" for n in range(5)], b"Subject: " + subject + b"\r\n folded\r\n\r\nx\r\n"
        )
        smtp.sendmail("a@b.test", ["c@d.test"], b"Subject: =?nonsense?b?!?=\r\n\r\nx\r\n")
    first, second = [line for line in catcher.log().splitlines() if " caught " in line]
    assert 'from=a@b.test to="r0@d.test, r1@d.test, r2@d.test and 2 more" subject="hé' in first
    assert "folded" in first
    assert "\x1b" not in first
    assert str(catcher.mail / "new") in second


def test_a_disk_that_takes_nothing_defers_and_the_catcher_goes_on(catcher: Catcher) -> None:
    (catcher.mail / "tmp").rmdir()
    (catcher.mail / "tmp").touch()  # a file in place of the folder: nobody can write into it, not even root
    with catcher.smtp() as smtp:
        with pytest.raises(smtplib.SMTPDataError, match=r"4\.3\.1"):
            smtp.sendmail("a@b.test", ["c@d.test"], b"Subject: 1\r\n\r\nx\r\n")
        (catcher.mail / "tmp").unlink()
        smtp.sendmail("a@b.test", ["c@d.test"], b"Subject: 2\r\n\r\nx\r\n")
    assert catcher.only()["Subject"] == "2"


def test_a_disk_that_is_full_in_the_middle_of_a_message_keeps_nothing_of_it(catcher: Catcher) -> None:
    resource.prlimit(catcher.process.pid, resource.RLIMIT_FSIZE, (64 * 1024, 64 * 1024))
    with catcher.smtp() as smtp:
        with pytest.raises(smtplib.SMTPDataError, match=r"4\.3\.1"):
            smtp.sendmail("a@b.test", ["c@d.test"], b"Subject: 1\r\n\r\n" + (b"x" * 70 + b"\r\n") * 1000)
        smtp.sendmail("a@b.test", ["c@d.test"], b"Subject: 2\r\n\r\nx\r\n")
    assert catcher.only()["Subject"] == "2"
    assert list((catcher.mail / "tmp").iterdir()) == []


def test_a_maildir_that_was_removed_is_made_again(catcher: Catcher) -> None:
    for name in ("tmp", "new", "cur"):
        (catcher.mail / name).rmdir()
    catcher.mail.rmdir()
    with catcher.smtp() as smtp:
        smtp.sendmail("a@b.test", ["c@d.test"], b"Subject: 1\r\n\r\nx\r\n")
    assert catcher.only()["Subject"] == "1"


def test_recipients_of_the_simulator_are_refused_as_they_wish_and_the_others_get_their_mail(catcher: Catcher) -> None:
    with catcher.smtp() as smtp:
        refused = smtp.sendmail(
            "a@b.test",
            ["bounce+1@simulator", "ann@simulator", "defer@simulator", "bounce@b.test"],
            b"Subject: 1\r\n\r\nx\r\n",
        )
    assert {address: (code, said[:5]) for address, (code, said) in refused.items()} == {
        "bounce+1@simulator": (550, b"5.1.1"),
        "defer@simulator": (451, b"4.7.1"),
    }
    assert catcher.only().get_all("X-Envelope-To") == ["ann@simulator", "bounce@b.test"]
    assert len([line for line in catcher.log().splitlines() if " refused " in line]) == 2


def test_of_the_mail_it_caught_the_newest_is_kept(tmp_path: Path) -> None:
    catcher = Catcher(tmp_path / "var", CATCHER_MOST=2)
    with catcher.smtp() as smtp:
        for number in range(5):
            smtp.sendmail("a@b.test", ["c@d.test"], f"Subject: {number}\r\n\r\nx\r\n".encode())
    assert [message_from_bytes(content)["Subject"] for content in catcher.kept()] == ["3", "4"]
    assert catcher.stop() == 0
