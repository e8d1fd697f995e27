"""Mail that comes to the MX port of a door, and domains that take it."""

from datetime import UTC, datetime

from sqlalchemy import insert

from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from mailbbgun.domains.models import POLICIES, SendingDomain
from mailbbgun.mailboxes.models import MAILBOXES
from mailbbgun.services import Services
from tests.smtpd.conftest import RunningDoor, Talk


def add_domains(services: Services) -> None:
    """Make a local domain of each policy, each with a mailbox of Ann."""
    now = datetime.now(UTC)
    with services.db.write() as session:
        for policy in POLICIES:
            its = {"tenant_id": DEFAULT_TENANT, "created_at": now}
            name = f"{policy}.test"
            session.add(SendingDomain(id=new_id(), name=name, local=True, policy=policy, findings=[], **its))
            session.execute(insert(MAILBOXES), [{"id": new_id(), "address": f"ann@{name}", **its}])


def send(door: RunningDoor, mail: bytes, *to: str, sender: str = "ann@example.com") -> tuple[str, list[bytes]]:
    """Send a mail to the MX port; return the reply, and the bytes of the messages that were stored."""
    before = len(door.stored())
    with Talk(door.addresses["mx"][1]) as talk:
        talk.say(b"EHLO mx.far.test")
        talk.begin(*to, sender=sender)
        talk.send(mail.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        reply = talk.reply().decode()
    return reply, [bytes(one.raw) for one in door.stored()[before:]]
