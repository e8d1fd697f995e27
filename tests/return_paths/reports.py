"""Reports as servers and mailbox providers write them (RFC 3464, RFC 5965, RFC 3834)."""

from textwrap import dedent

ORIGINAL = """\
Return-Path: <{path}>
Message-ID: {header}
From: shop@example.com
To: {address}
Subject: Your order
"""


def _report(kind: str, words: str, fields: str, original: str) -> bytes:
    part = "message/feedback-report" if kind == "feedback-report" else "message/delivery-status"
    text = f"""\
From: Mail Delivery System <MAILER-DAEMON@mx.example.net>
To: b@bounces.example.com
Subject: Undelivered Mail Returned to Sender
Date: Sun, 29 Nov 2026 07:00:00 +0000
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type={kind}; boundary="b"

--b
Content-Type: text/plain; charset=us-ascii

{words}

--b
Content-Type: {part}

{fields}
--b
Content-Type: text/rfc822-headers

{original}
--b--
"""
    return text.replace("\n", "\r\n").encode()


def status(
    address: str, header: str, *, action: str = "failed", code: str = "5.1.1", words: str = "550 5.1.1 no such user"
) -> bytes:
    """Return a delivery status notification about a recipient. It names the Message-ID, and no return path."""
    fields = dedent(
        f"""\
        Reporting-MTA: dns; mx.example.net

        Final-Recipient: rfc822; {address}
        Original-Recipient: rfc822; {address}
        Action: {action}
        Status: {code}
        Diagnostic-Code: smtp; {words}
        """
    )
    said = f"<{address}>: host mx.example.net said: {words}"
    original = ORIGINAL.format(path="", header=header, address=address).partition("\n")[2]
    return _report("delivery-status", said, fields, original)


def complaint(address: str, header: str, path: str, feedback_type: str = "abuse") -> bytes:
    """Return a complaint of a feedback loop, with the header of the mail."""
    fields = dedent(
        f"""\
        Feedback-Type: {feedback_type}
        User-Agent: ExampleLoop/1.0
        Version: 1
        Original-Rcpt-To: <{address}>
        """
    )
    original = ORIGINAL.format(path=path, header=header, address=address)
    return _report("feedback-report", "This is a spam report.", fields, original)


def auto_reply(address: str, header: str) -> bytes:
    """Return the answer of a person's mailbox while the person is away."""
    text = f"""\
From: {address}
To: shop@example.com
Subject: Automatic reply: Your order
Auto-Submitted: auto-replied
In-Reply-To: {header}

I am out of office until Monday.
"""
    return text.replace("\n", "\r\n").encode()
