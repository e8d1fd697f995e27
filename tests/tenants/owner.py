"""A tenant that has one of everything, for the tests that nobody else sees any of it."""

from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import insert

from mailbbgun.core.caller import Scope
from mailbbgun.core.ids import new_id
from mailbbgun.mailboxes.models import MAILBOX_CONTENTS, MAILBOX_MESSAGES
from tests.tenants.conftest import HELLO, Locked

SECRET = "their-secret"
ACCOUNT = {"setting_name": SECRET, "smtp_host": "smtp.example.com", "smtp_port": 587, "security_protocol": "STARTTLS"}


class Owner:
    """A tenant with one of everything."""

    def __init__(self, door: Locked, name: str) -> None:
        self.tenant = door.tenant(name)
        self.key = door.key(self.tenant, scopes=[scope for scope in Scope if scope is not Scope.ADMIN])
        sent = door.ask("POST", "/messages", self.key["key"], json=HELLO | {"subject": SECRET, "tags": ["shared"]})
        self.message = sent.json()["id"]
        batch = {"from": HELLO["from"], "subject": SECRET, "text": "Hi", "recipients": [{"to": HELLO["to"]}]}
        self.batch = door.ask("POST", "/messages/batch", self.key["key"], json=batch).json()["batch_id"]
        self.cursor = f"of-{name}"
        assert door.ask("PUT", f"/cursors/{self.cursor}", self.key["key"], json={}).status_code == 200
        made = door.ask(
            "POST", "/smtp-accounts", self.key["key"], json=ACCOUNT | {"smtp_username": "u", "smtp_password": SECRET}
        )
        assert made.status_code == 201, made.text
        self.account = made.json()["id"]
        bot = {"name": SECRET, "bot_token": "xoxb-1234-5678-abcdefghijklmnop", "default_channel": f"#{SECRET}"}
        made = door.ask("POST", "/slack/accounts", self.key["key"], json=bot)
        assert made.status_code == 201, made.text
        self.slack_account = made.json()["id"]
        sent = door.ask("POST", "/slack/messages", self.key["key"], json={"text": SECRET})
        assert sent.status_code == 201, sent.text
        self.slack_message = sent.json()["id"]
        assert door.ask("GET", f"/smtp-accounts/{self.account}/credentials", self.key["key"]).status_code == 200
        file = {"md5": "a" * 32, "size": 3, "filename": SECRET}
        self.attachment = door.ask("POST", "/attachments/presign", self.key["key"], json=file).json()["id"]
        named = {"params": {"name": f"{SECRET}.txt"}, "data": b"theirs"}
        self.file = door.ask("PUT", "/files", self.key["key"], **named).json()["id"]
        whom = {"address": "gone@example.com", "reason": SECRET}
        assert door.ask("POST", "/suppressions", self.key["key"], json=whom).status_code == 200
        self.suppression = door.ask("GET", "/suppressions", self.key["key"]).json()["suppressions"][0]["id"]

        text = {"name": f"of-{name}", "subject": SECRET, "text": "Hi"}
        written = door.ask("POST", "/templates", self.key["key"], json=text)
        assert written.status_code == 201, written.text
        self.template = written.json()["id"]
        added = door.ask("POST", "/domains", self.key["key"], json={"name": f"{SECRET}.{name}.test"})
        assert added.status_code == 201, added.text
        self.domain = added.json()
        local = f"{SECRET}.local.{name}.test"
        assert door.ask("POST", "/domains", self.key["key"], json={"name": local, "local": True}).status_code == 201
        self.mailbox, self.alias = f"{SECRET}@{local}", f"alias@{local}"
        made = door.ask("POST", "/mailboxes", self.key["key"], json={"address": self.mailbox})
        assert made.status_code == 201, made.text
        body = {"address": self.alias}
        assert door.ask("POST", f"/mailboxes/{self.mailbox}/aliases", self.key["key"], json=body).status_code == 201
        content = {"id": new_id(), "delivery_id": new_id(), "raw": SECRET.encode()}
        mail = {"id": new_id(), "delivery_id": content["delivery_id"], "message_id": new_id(), "size": 1}
        mail |= {"mailbox_id": UUID(made.json()["id"]), "content_id": content["id"], "has_attachments": False}
        mail |= dict.fromkeys(("mail_from", "rcpt_to", "subject", "sender", "message_id_header"), SECRET)
        with door.services.db.write() as session:
            its = {"tenant_id": UUID(self.tenant)}
            session.execute(insert(MAILBOX_CONTENTS), [content | its | {"created_at": datetime.now(UTC)}])
            session.execute(insert(MAILBOX_MESSAGES), [mail | its | {"received_at": datetime.now(UTC)}])
        self.mail = str(mail["id"])
        hook = {"url": f"https://{SECRET}.{name}.test/", "description": SECRET}
        listening = door.ask("POST", "/webhooks", self.key["key"], json=hook)
        assert listening.status_code == 201, listening.text
        self.webhook = listening.json()["id"]
        route = {"name": SECRET, "actions": [{"store": {"mailbox": self.mailbox}}]}
        made = door.ask("POST", "/inbound-routes", self.key["key"], json=route)
        assert made.status_code == 201, made.text
        self.inbound_route = made.json()["id"]
        watched = {"name": SECRET, "kind": "failure_rate", "emails": ["ops@example.com"]}
        self.alert = door.ask("POST", "/alerts", self.key["key"], json=watched).json()["id"]
        sold = {"type": "standard", "subject": SECRET, "email": f"{SECRET}@example.com"}
        self.licence = door.ask("POST", "/licences", self.key["key"], json=sold).json()["id"]

    @property
    def ids(self) -> dict[str, str]:
        """Return the value for each parameter of a path."""
        return {
            "message_id": self.message,
            "name": self.cursor,
            "batch_id": self.batch,
            "account_id": self.account,
            "slack_account_id": self.slack_account,
            "attachment_id": self.attachment,
            "file_id": self.file,
            "suppression_id": self.suppression,
            "called": self.template,
            "number": "1",
            "domain": self.domain["id"],
            "address": self.mailbox,
            "alias": self.alias,
            "mail_id": self.mail,
            "webhook_id": self.webhook,
            "route_id": self.inbound_route,
            "alert_id": self.alert,
            "licence_id": self.licence,
            "selector": self.domain["keys"][0]["selector"],
            "tenant_id": self.tenant,
            "key_id": self.key["id"],
        }
