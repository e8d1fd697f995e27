"""``bin/mailbbgun mailbox``, and local domains, on each database."""

from uuid import UUID

import pytest
from click.testing import CliRunner
from sqlalchemy import insert

from mailbbgun.cli.main import main
from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from mailbbgun.database.db import db_now
from mailbbgun.mailboxes.models import MAILBOX_CONTENTS, MAILBOX_MESSAGES
from tests.cli.conftest import Shell

RAW = (
    b"From: Joe <joe@far.test>\r\nTo: ann@cli.test\r\nSubject: Hello\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nTurned: \xe2\x80\xae\r\n"
    b"--b\r\nContent-Type: image/png\r\nContent-Disposition: attachment; filename=a.png\r\n\r\nPNG\r\n--b--\r\n"
)


@pytest.fixture(scope="module")
def local(shell: Shell) -> Shell:
    """An installation with the local domain ``cli.test``."""
    shell.run("domain", "add", "--local", "cli.test")
    return shell


def kept(shell: Shell, mailbox: UUID) -> str:
    """Put a mail into a mailbox, as a delivery does; return its id."""
    delivery = new_id()
    content = {"id": new_id(), "tenant_id": DEFAULT_TENANT, "delivery_id": delivery, "raw": RAW}
    mail = {"id": new_id(), "tenant_id": DEFAULT_TENANT, "mailbox_id": mailbox, "content_id": content["id"]}
    mail |= {"delivery_id": delivery, "message_id": new_id(), "mail_from": "joe@far.test", "rcpt_to": "ann@cli.test"}
    mail |= {"subject": "Hello", "sender": "Joe <joe@far.test>", "message_id_header": "", "size": len(RAW)}
    with shell.services.db.write() as session:
        session.execute(insert(MAILBOX_CONTENTS).values(**content, created_at=db_now()))
        session.execute(insert(MAILBOX_MESSAGES).values(**mail, received_at=db_now(), has_attachments=True))
    return str(mail["id"])


def test_a_domain_is_made_local_at_once_or_later_for_all_tenants(local: Shell) -> None:
    shown = local.json("domain", "show", "cli.test")
    assert (shown["local"], shown["policy"]) == (True, "none")
    assert local.json("domain", "add", "later.test")["local"] is False
    changed = local.json("domain", "set", "later.test", "--local", "--policy", "reject")
    assert (changed["local"], changed["policy"]) == (True, "reject")
    assert local.json("domain", "set", "later.test", "--no-local")["local"] is False
    assert "Nothing is to be changed" in local.run("domain", "set", "later.test", code=2).stderr
    local.run("tenant", "create", "other")
    taken = local.run("domain", "add", "--local", "cli.test", "--tenant", "other", code=1)
    assert taken.stderr == "mailbbgun: cli.test is the local domain of another tenant.\n"


def test_a_mailbox_is_added_changed_listed_and_removed(local: Shell) -> None:
    made = local.json("mailbox", "add", "Ben@cli.test", "--quota-messages", "5", "--catch-all")
    assert made.items() >= {"address": "ben@cli.test", "quota_messages": 5, "catch_all": True, "messages": 0}.items()
    changed = local.json("mailbox", "set", made["id"], "--quota-messages", "none", "--quota-bytes", "1000")
    assert (changed["quota_messages"], changed["quota_bytes"], changed["catch_all"]) == (None, 1000, True)
    assert local.json("mailbox", "alias", "ben@cli.test", "sales@cli.test")["aliases"] == ["sales@cli.test"]
    listed = local.json("mailbox", "list", "--domain", "CLI.test")
    assert [one["address"] for one in listed["mailboxes"]] == ["ben@cli.test"]
    assert local.json("mailbox", "list", "--domain", "none.test") == {"mailboxes": [], "count": 0}
    assert "ben@cli.test" in local.run("mailbox", "list").stdout
    assert local.json("mailbox", "alias", "ben@cli.test", "SALES@cli.test", "--remove")["aliases"] == []
    gone = local.run("mailbox", "alias", "ben@cli.test", "sales@cli.test", "--remove", code=1)
    assert gone.stderr == "mailbbgun: ben@cli.test has no such alias.\n"
    assert "--yes does not ask" in local.run("mailbox", "remove", "ben@cli.test", code=2).stderr
    removed = local.run("mailbox", "remove", "BEN@cli.test", "--yes").stdout
    assert removed == "deleted the mailbox ben@cli.test and the mail in it (0)\n"
    assert local.run("mailbox", "show", "ben@cli.test", code=1).stderr == "mailbbgun: There is no such mailbox.\n"


def test_what_a_mailbox_cannot_be_is_told(local: Shell) -> None:
    assert "no local domain of yours" in local.run("mailbox", "add", "ann@far.test", code=2).stderr
    assert "quota_bytes" in local.run("mailbox", "add", "ann@cli.test", "--quota-bytes", "0", code=2).stderr
    local.run("mailbox", "add", "twice@cli.test")
    assert "already" in local.run("mailbox", "add", "twice@cli.test", code=1).stderr
    assert "Nothing is to be changed" in local.run("mailbox", "set", "twice@cli.test", code=2).stderr
    assert "no such mailbox" in local.run("mailbox", "messages", "nobody", code=1).stderr


def test_the_mail_of_a_mailbox_is_listed_and_shown_without_controlling_the_terminal(local: Shell) -> None:
    mail = kept(local, UUID(local.json("mailbox", "add", "ann@cli.test")["id"]))
    listed = local.json("mailbox", "messages", "ann@cli.test", "--from", "JOE", "--no-read")
    assert ([one["id"] for one in listed["messages"]], listed["count"]) == ([mail], 1)
    assert local.json("mailbox", "messages", "ann@cli.test", "--subject", "else")["count"] == 0
    assert "Hello" in local.run("mailbox", "messages", "ann@cli.test").stdout
    assert "1 of 1" not in local.run("mailbox", "messages", "ann@cli.test").stderr
    folders = local.json("mailbox", "folders", "ann@cli.test")["folders"]
    assert folders == [{"name": "INBOX", "messages": 1, "unread": 1}]
    shown = local.json("mailbox", "show", "ann@cli.test", mail)
    assert shown["text"] == "Turned: \u202e"
    assert shown["attachments"][0]["url"] == f"/mailboxes/ann@cli.test/messages/{mail}/attachments/0"
    printed = local.run("mailbox", "show", "ann@cli.test", mail).stdout
    assert "Turned: \\u202e" in printed
    assert "a.png" in printed
    raw = CliRunner().invoke(main, ["mailbox", "show", "ann@cli.test", mail, "--raw"], env=local.environment())
    assert raw.stdout_bytes.endswith(RAW)
    assert "no such mail" in local.run("mailbox", "show", "ann@cli.test", str(new_id()), code=1).stderr
