"""Makes the requests that post mail to URLs, and signs them: the source of ``relays/posting/relay.py``.

It reads a route for each request, so a URL or a secret that was changed is used at once, also for mail
that waits.
"""

import secrets
from datetime import UTC, datetime
from uuid import UUID

from mailbbgun.core.clock import rfc3339
from mailbbgun.core.errors import SecretUnreadable
from mailbbgun.database.crypto import Vault
from mailbbgun.database.db import Database
from mailbbgun.inbound_routes import repo
from mailbbgun.inbound_routes.posts.forms import PostedMail, as_json, as_mailgun
from mailbbgun.mime_reading.read import contents, read
from mailbbgun.outgoing.signing import key_of, signature
from mailbbgun.relays.posting.relay import PostUnusable, PreparedPost
from mailbbgun.smtp.envelope import Envelope

#: Bytes of the token of Mailgun's form, whose hexadecimal digits are sent: as many as Mailgun has.
TOKEN_BYTES = 25


class InboundPosts:
    """Keeps the promises of ``PostSource``. Thread-safe."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database, self._vault = database, vault

    def prepared(self, route_id: UUID, envelope: Envelope) -> PreparedPost:
        """Return the request for a mail to one recipient. See ``PostSource``."""
        with self._database.read() as session:
            route = repo.of_any_tenant(session, route_id)
        if route is None:
            raise PostUnusable("the inbound route was deleted", gone=True)
        post = next((one["post"] for one in route.actions if "post" in one), None)
        if post is None:
            raise PostUnusable("the inbound route posts nothing any more", gone=True)
        if not route.enabled:
            raise PostUnusable("the inbound route is not enabled")
        try:
            secret = self._vault.decrypt(route.secret)
        except SecretUnreadable as error:
            raise PostUnusable("the secret of the inbound route cannot be decrypted") from error
        [address] = envelope.recipients
        return _request(post, secret, envelope, f"mail_{envelope.deliveries[address].hex}")


def _request(post: dict[str, str], secret: str, envelope: Envelope, identifier: str) -> PreparedPost:
    raw = envelope.raw if isinstance(envelope.raw, bytes) else b"".join(envelope.raw.octets())
    mail = PostedMail(envelope.received_for or "", envelope.mail_from, read(raw), contents(raw))
    now = datetime.now(UTC)
    timestamp, headers = int(now.timestamp()), {"webhook-id": identifier}
    if post["form"] == "mailgun":
        form = as_mailgun(mail, secret, timestamp, secrets.token_hex(TOKEN_BYTES))
        return PreparedPost(post["url"], headers | {"Content-Type": form.content_type}, form.body)
    body = as_json(mail, identifier, rfc3339(now))
    headers |= {"Content-Type": "application/json", "webhook-timestamp": str(timestamp)}
    headers["webhook-signature"] = signature([key_of(secret)], identifier, timestamp, body)
    return PreparedPost(post["url"], headers, body)
