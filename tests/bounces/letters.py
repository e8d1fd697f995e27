"""Mail that comes back, in our own words, of the forms that mail servers use."""

from email.message import EmailMessage

ORIGINAL = "From: shop@example.com\nTo: ann@example.net\nMessage-ID: <1@example.com>\nSubject: Invoice\n\nHello"


def notice(
    text: str, subject: str = "failure notice", author: str = "MAILER-DAEMON@mx.example.net", **more: str
) -> bytes:
    """Return a notice that follows no standard."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = author, "shop@example.com", subject
    for name, value in more.items():
        mail[name.replace("_", "-")] = value
    mail.set_content(text)
    return bytes(mail)


def report(
    fields: str, text: str = "See below.", kind: str = "delivery-status", subject: str = "Returned mail"
) -> bytes:
    """Return a multipart/report (RFC 6522), with the mail that came back."""
    return (
        f"From: MAILER-DAEMON@mx.example.net\nTo: shop@example.com\nSubject: {subject}\nMIME-Version: 1.0\n"
        f'Content-Type: multipart/report; report-type={kind}; boundary="=b"\n\n'
        f"--=b\nContent-Type: text/plain\n\n{text}\n\n--=b\nContent-Type: message/{kind}\n\n{fields}\n\n"
        f"--=b\nContent-Type: message/rfc822\n\n{ORIGINAL}\n--=b--\n"
    ).encode()


def dsn(action: str = "failed", status: str = "5.1.1", said: str = "smtp; 550 No such user", **more: str) -> bytes:
    """Return a delivery status notification (RFC 3464) about one recipient."""
    lines = [
        "Reporting-MTA: dns; mx.example.net",
        *(f"{name.replace('_', '-')}: {value}" for name, value in more.items() if name.startswith("Original_Env")),
        "",
        *(f"{name.replace('_', '-')}: {value}" for name, value in more.items() if not name.startswith("Original_Env")),
        *([] if "Final_Recipient" in more else ["Final-Recipient: rfc822; ann@example.net"]),
        f"Action: {action}",
        f"Status: {status}",
        f"Diagnostic-Code: {said}",
    ]
    return report("\n".join(lines))
