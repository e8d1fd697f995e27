"""The fields that this server puts before a message (RFC 5321 §4.4)."""

from datetime import datetime

from mailbbgun.composing.mime import date_of
from mailbbgun.smtpd.parts import DoorPeer


def received(peer: DoorPeer, hostname: str, date: datetime, *, logged_in: bool, smtputf8: bool) -> bytes:
    """Return the Received field of a message that came now.

    It names neither the API key nor the user, nor any recipient: those in Bcc are secret.
    """
    literal = f"[IPv6:{peer.address}]" if ":" in peer.address else f"[{peer.address}]"
    # RFC 3848, RFC 6531 §4.3.
    protocol = "UTF8SMTP" if smtputf8 else "ESMTP" if peer.extended else "SMTP"
    if protocol != "SMTP":
        protocol += ("S" if peer.secure else "") + ("A" if logged_in else "")
    return (
        f"Received: from {peer.helo} ({literal})\r\n\tby {hostname} with {protocol};\r\n\t{date_of(date)}\r\n"
    ).encode()
