"""What clients of the SMTP door say that mean no good: a grammar of sessions, which is broken at random.

The same seed always makes the same session.
"""

import base64
import random
from dataclasses import dataclass
from enum import Enum, auto


class Way(Enum):
    """How a client comes in."""

    SUBMISSION = auto()
    STARTTLS = auto()
    TLS = auto()
    MX = auto()
    #: At the port with TLS, or after STARTTLS: octets that are no handshake, or half of one.
    NO_TLS = auto()
    NO_STARTTLS = auto()


class End(Enum):
    """How a client ends a session."""

    #: It sends no more, and reads to the end; the door must close.
    NO_MORE = auto()
    #: It resets the connection at once, with replies unread.
    RESET = auto()
    #: It closes at once.
    CLOSE = auto()


@dataclass(frozen=True)
class Plan:
    """One session. ``sizes``: of the pieces in which it is written; empty: a step, then the reply to it."""

    way: Way
    steps: list[bytes]
    sizes: list[int]
    end: End


ADDRESSES = [
    "<ann@a.test>",
    "<ann@a.test>",
    "<ann@example.com>",
    "<>",
    "<nobody>",
    "<@a,@b:ann@example.com>",
    '<"a b"@example.com>',
    '<"a\\"@a.test>',
    "<a@b",
    "a@b>",
    "<a@b>>",
    "<" + "x" * 2000 + "@example.com>",
    "<ä@example.com>",
    "<ann@ä.test>",
    "<a@[127.0.0.1]>",
    "<a@[IPv6:::1]>",
    "<ann+x%y!z@a.test>",
    "<postmaster>",
    "<../../etc/passwd@a.test>",
    "<ann@a.test.>",
]
PARAMETERS = [
    "",
    "",
    "",
    " SIZE=10",
    " SIZE=99999999999999999999",
    " SIZE=x",
    " SIZE=²",
    " BODY=8BITMIME",
    " BODY=BINARYMIME",
    " SMTPUTF8",
    " SMTPUTF8=1",
    " AUTH=<>",
    " X=Y",
    " RET=FULL ENVID=x",
    " SIZE=1 SIZE=2",
    " =",
]
ENDS = [b"\r\n"] * 24 + [b"\n", b"\r", b"\r\n\r\n", b"", b"\0\r\n", b"\r\r\n", b"\n\r"]
DOTS = [b"\r\n.\r\n"] * 8 + [b"\n.\r\n", b"\r\n.\n", b"\n.\n", b"\r.\r", b"\r\n.\r", b"\r\n\0.\r\n", b"\r\n..\r\n"]
FIELDS = [
    b"Subject: x",
    b"From: shop@example.com",
    b"From: a@b, c@d",
    b"From: \xe4\xf6 <a@b.test>",
    b"From:",
    b"To: ann@a.test",
    b"To: " + b"a@b.test, " * 90,
    b"Date: yesterday",
    b"Message-ID: <same@example.com>",
    b"Message-ID: <" + b"x" * 900 + b">",
    b"Bcc: secret@example.com",
    b"Received: from a by b; c",
    b"X-MBG-Metadata: {",
    b'X-MBG-Metadata: {"a": "b"}',
    b"X-MBG-Tag: \xff",
    b"X-MBG-Send-At: 9999-99-99",
    b"X-MBG-Priority: 1e9",
    b"X-MBG-Template: none",
    b"X-MBG-Variables: []",
    b"X-MBG-Track: opens",
    b"X-MBG-Idempotency-Key: k",
    b"MIME-Version: 1.0",
    b"Content-Type: multipart/mixed; boundary=b",
    b"Content-Type: message/rfc822",
    b"Content-Type: text/plain; charset=\xff",
    b"Content-Transfer-Encoding: base64",
    b"DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=x; h=from; bh=x; b=y",
    b"ARC-Seal: i=1; cv=none",
    b" folded",
    b": nothing",
    b"no colon",
    b"X: " + b"y" * 2000,
]
BODIES = [
    b"Hello",
    b"",
    b".",
    b"..",
    b".\r\n..\r\n.x",
    b"\xff\xfe\xfd",
    b"\0",
    b"lone \r and \n ends",
    b"x" * 3000,
    b"--b\r\n\r\na\r\n--b--",
    b"MAIL FROM:<evil@example.com>\r\nRCPT TO:<ann@a.test>\r\nDATA",
    b"long text\r\n" * 8000,
]
NO_HANDSHAKES = [b"\x16\x03\x01\x02\x00\x01", b"EHLO x\r\n", b"", b"\x80" * 20_000]
WORDS = [
    "HELO x",
    "HELO",
    "EHLO",
    "EHLO [127.0.0.1]",
    "EHLO " + "x" * 300,
    "EHLO ä",
    "DATA",
    "DATA x",
    "RSET",
    "RSET x",
    "NOOP",
    "NOOP " + "x" * 500,
    "VRFY ann",
    "VRFY",
    "EXPN x",
    "HELP",
    "HELP x",
    "TURN",
    "ETRN x",
    "STARTTLS",
    "STARTTLS now",
    "BDAT 5 LAST",
    "AUTH",
    "AUTH PLAIN",
    "AUTH PLAIN =",
    "AUTH LOGIN",
    "AUTH LOGIN =",
    "AUTH LOGIN dXNlcg==",
    "AUTH CRAM-MD5",
    "AUTH PLAIN " + "A" * 3000,
    "*",
    "=",
    "QUIT",
    "QUIT x",
    "",
    " ",
    "\t",
    "mail from : <a@b.example>",
    "MAIL FROM",
    "MAIL",
    "RCPT",
    "RCPT TO",
    "üß",
    "GET / HTTP/1.1",
    "POST / HTTP/1.1",
    "Host: x",
    "XCLIENT ADDR=127.0.0.1",
]


class Grammar:
    """Draws sessions. ``key``: an API key that may submit."""

    def __init__(self, seed: int, key: str) -> None:
        self.dice = random.Random(seed)
        self._key = key

    def plan(self) -> Plan:
        """Return a session."""
        dice = self.dice
        way = dice.choices([*Way], [5, 3, 2, 4, 1, 1])[0]
        if way in (Way.NO_TLS, Way.NO_STARTTLS):
            steps = [dice.choice([dice.randbytes(300), *NO_HANDSHAKES])]
        else:
            steps = self._steps(way)
        pieces = dice.choice([[], [], [1, 3, 50], [50, 1000], [1000, 100_000], [100_000]])
        return Plan(way, steps, pieces, dice.choices([*End], [7, 1, 2])[0])

    def _steps(self, way: Way) -> list[bytes]:
        dice = self.dice
        steps = [b"EHLO client.example.com\r\n"] if dice.random() < 0.9 else []
        if way is not Way.MX and dice.random() < 0.7:
            steps.append(b"AUTH PLAIN " + self._login(self._key) + b"\r\n")
        for _ in range(dice.randint(1, 8)):
            steps += self._message() if dice.random() < 0.4 else [self._line()]
        if dice.random() < 0.3:
            steps = self._broken(steps)
        return steps

    def _login(self, key: str) -> bytes:
        return base64.b64encode(f"\0any\0{key}".encode())

    def _line(self) -> bytes:
        """Return a command, or something like it."""
        dice = self.dice
        text = dice.choice(
            [
                dice.choice(WORDS),
                dice.choice(WORDS),
                f"MAIL FROM:{dice.choice(ADDRESSES)}{dice.choice(PARAMETERS)}",
                f"RCPT TO:{dice.choice(ADDRESSES)}{dice.choice(PARAMETERS)}",
                f"AUTH PLAIN {self._login(dice.choice([self._key, 'wrong', '', 'x' * 500])).decode()}",
                "x" * dice.choice([10, 600, 2047, 2048, 2049, 5000, 70_000]),
            ]
        )
        return text.encode() + dice.choice(ENDS)

    def _message(self) -> list[bytes]:
        """Return a transaction of which most is right."""
        dice = self.dice
        sender = "<shop@example.com>" if dice.random() < 0.8 else dice.choice(ADDRESSES)
        parameters = dice.choice(PARAMETERS) if dice.random() < 0.3 else ""
        steps = [f"MAIL FROM:{sender}{parameters}\r\n".encode()]
        for _ in range(dice.choice([0, 1, 1, 1, 2, 5, 40])):
            steps.append(f"RCPT TO:{dice.choice(ADDRESSES[: dice.choice([1, 1, 3])])}\r\n".encode())
        fields = [b"From: shop@example.com"] if dice.random() < 0.9 else []
        fields += [dice.choice(FIELDS) for _ in range(dice.choice([0, 0, 1, 2, 5, 100]))]
        ends = [b"\r\n"] * 20 + [b"\n", b"\r", b""]
        body = b"".join(dice.choice(BODIES) + dice.choice(ends) for _ in range(dice.choice([0, 1, 1, 4])))
        return [*steps, b"DATA\r\n", b"\r\n".join([*fields, b"", body]) + dice.choice(DOTS)]

    def _broken(self, steps: list[bytes]) -> list[bytes]:
        """Return the steps with one of them damaged, moved, repeated or left out."""
        dice = self.dice
        steps = list(steps)
        place = dice.randrange(len(steps))
        step = steps[place]
        at = dice.randint(0, len(step))
        change = dice.randrange(6)
        if change == 0:
            steps[place] = step[:at] + dice.choice([b"\0", b"\r", b"\n", b"\xff", b" ", dice.randbytes(50)]) + step[at:]
        elif change == 1:
            steps[place] = step[:at]
        elif change == 2:
            steps.insert(dice.randint(0, len(steps)), step)
        elif change == 3:
            del steps[place]
        elif change == 4:
            steps.insert(dice.randint(0, len(steps)), dice.randbytes(dice.choice([1, 100, 5000])))
        else:
            dice.shuffle(steps)
        return steps
