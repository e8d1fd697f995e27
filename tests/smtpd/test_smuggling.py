"""SMTP smuggling: no sequence but CR LF . CR LF ends a message, and none that others take for one is passed on.

What is stored is what relays send: they stuff dots, and change nothing else (tests/smtp). So a second
message can come to a sink only if it is stored here, or if what is stored has a bare CR, LF or NUL.
"""

import pytest

from mailbbgun.smtpd.conversation.data import is_bare
from tests.smtpd.conftest import MAIL, Talk, running

#: Every sequence that some server was seen to take for the end of a message.
ENDS = [
    b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\r.\n", b"\n.\r",
    b"\r\n.\r\r\n", b"\r\r\n.\r\r\n", b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\0\r\n.\n", b"\n\0.\r\n", b"\r\0\n.\r\0\n",
    b"\n\n.\n\n", b"\r\n\n.\r\n", b"\r\n\r.\r\n", b"\n\r.\n\r", b"\r\r.\r\r",
]  # fmt: skip
SECOND = (
    b"MAIL FROM:<evil@example.com>\r\nRCPT TO:<victim@example.com>\r\nDATA\r\nFrom: evil@example.com\r\n\r\nevil\r\n"
)


@pytest.fixture(scope="module", params=[False, True], ids=["refuse", "normalise"])
def door(request, sqlite):
    with running(sqlite, normalise_newlines=request.param) as one:
        one.normalises = request.param
        one.token = one.key()
        yield one


@pytest.mark.parametrize("end", ENDS, ids=repr)
@pytest.mark.parametrize("cut", ["whole", "in the middle", "byte by byte"])
def test_a_false_end_hides_no_second_message(door, end, cut):
    before = len(door.stored())
    sent = MAIL.rstrip() + end + SECOND + b"\r\n.\r\nNOOP\r\n"
    with Talk(door.port) as talk:
        talk.login(door.token).begin()
        middle = sent.index(end) + len(end) // 2
        begin = sent.index(end)
        parts = {
            "whole": [sent],
            "in the middle": [sent[:middle], sent[middle:]],
            "byte by byte": [sent[:begin], *(bytes([one]) for one in end), sent[begin + len(end) :]],
        }
        for part in parts[cut]:
            talk.send(part)
        # One reply to the message, and one to NOOP: nothing of the message was a command.
        first, second = talk.reply(), talk.reply()
        assert talk.say(b"QUIT").startswith(b"221")
        assert talk.closed()
    assert second.startswith(b"250 2.0.0 OK")
    new = door.stored()[before:]
    if door.normalises:
        assert first.startswith(b"250 2.0.0 Stored")
        assert len(new) == 1
        assert set(door.recipients(new[0])) == {"ann@example.com"}
        assert not is_bare(bytes(new[0].raw))
        assert b"RCPT TO:<victim@example.com>" in bytes(new[0].raw)
    else:
        assert first.startswith(b"550 5.6.0")
        assert new == []


@pytest.mark.parametrize(
    "line", [b"NOOP\n", b"NOOP\r\r\n", b"NO\0OP\r\n", b"MAIL FROM:<a@b.test>\nRCPT TO:<c@d.test>\r\n"]
)
def test_commands_that_do_not_end_in_crlf_are_none(door, line):
    with Talk(door.port) as talk:
        talk.login(door.token)
        talk.send(line)
        assert talk.reply().startswith(b"500 5.5.2")
