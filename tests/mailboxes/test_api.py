"""Mailboxes, aliases and catch-alls through the front door, and where their addresses lead."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import UUID

import pytest
import requests
from sqlalchemy import func, insert, select, text, update

from mailbbgun.core.ids import new_id
from mailbbgun.domains.local import LocalDomains
from mailbbgun.domains.models import DKIMKey
from mailbbgun.mailboxes.expire import KEPT, UnusedContents
from mailbbgun.mailboxes.models import MAILBOX_CONTENTS, MAILBOX_MESSAGES, MAILBOXES
from mailbbgun.mailboxes.resolve import FoundMailbox, names, resolve
from tests.flow.service import until
from tests.tenants.conftest import Locked, code, opened


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def locked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    settings = {}
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql")
        settings["DATABASE_URL"] = server.url(server.create_database())
    with opened(tmp_path_factory.mktemp("mailboxes"), 1, **settings) as door:
        yield door


class Tenant:
    """A tenant with a local domain."""

    def __init__(self, locked: Locked, name: str) -> None:
        self.locked, self.id, self.domain = locked, locked.tenant(name), f"{name}.test"
        self.key = locked.key(self.id, scopes=["domains", "mailboxes"])["key"]
        assert self.ask("POST", "/domains", name=self.domain, local=True).status_code == 201

    def ask(self, method: str, path: str, **body: object) -> requests.Response:
        return self.locked.ask(method, path, self.key, **({} if method in ("GET", "DELETE") else {"json": body}))

    def add(self, local: str, **given: object) -> dict:
        made = self.ask("POST", "/mailboxes", address=f"{local}@{self.domain}", **given)
        assert made.status_code == 201, made.text
        return made.json()

    def where(self, *locals_: str, size: int = 0) -> list[str]:
        """Return the mailbox that each address leads to, or the reply that refuses it."""
        db = self.locked.services.db
        found = resolve(db, LocalDomains(db), [f"{one}@{self.domain}" for one in locals_], size)
        return [
            one.address.partition("@")[0] if isinstance(one, FoundMailbox) else f"{one.code} {one.enhanced}"
            for one in found.values()
        ]


def test_a_mailbox_is_added_listed_shown_changed_and_deleted(locked):
    ours, others = Tenant(locked, "crud"), Tenant(locked, "others")
    made = ours.add("Ann", quota_bytes=1000)
    assert made["address"] == "ann@crud.test"
    assert (made["quota_bytes"], made["quota_messages"], made["catch_all"], made["messages"]) == (1000, None, False, 0)
    assert ours.ask("GET", "/mailboxes/ANN@crud.test").json() == made
    assert ours.ask("GET", f"/mailboxes/{made['id']}").json() == made
    assert ours.ask("GET", "/mailboxes").json() == {"mailboxes": [made], "count": 1}
    assert ours.ask("GET", "/mailboxes?domain=other.test").json()["count"] == 0
    changed = ours.ask("PATCH", "/mailboxes/ann@crud.test", quota_messages=5, quota_bytes=None, catch_all=True).json()
    assert (changed["quota_bytes"], changed["quota_messages"], changed["catch_all"]) == (None, 5, True)
    assert code(others.ask("GET", "/mailboxes/ann@crud.test")) == (404, "not_found")
    assert others.ask("GET", "/mailboxes").json()["count"] == 0
    assert ours.ask("DELETE", "/mailboxes/ann@crud.test").status_code == 204
    assert code(ours.ask("GET", "/mailboxes/ann@crud.test")) == (404, "not_found")


def test_an_address_must_be_at_a_local_domain_of_the_tenant_and_is_taken_once(locked):
    ours, others = Tenant(locked, "once"), Tenant(locked, "twice")
    ours.add("ann")
    for address in ("ann@elsewhere.test", "ann@twice.test", "no address", "ann+x@once.test"):
        refused = ours.ask("POST", "/mailboxes", address=address)
        assert code(refused) == (400, "validation_error"), address
        assert list(refused.json()["error"]["fields"]) == ["address"]
    assert code(ours.ask("POST", "/mailboxes", address="ANN@once.test")) == (409, "conflict")
    assert ours.ask("POST", "/mailboxes/ann@once.test/aliases", address="Sales@once.test").json()["aliases"] == [
        "sales@once.test"
    ]
    for path in ("/mailboxes", "/mailboxes/ann@once.test/aliases"):
        assert code(ours.ask("POST", path, address="sales@once.test")) == (409, "conflict")
    assert code(others.ask("POST", "/domains", name="once.test", local=True)) == (409, "conflict")
    assert ours.ask("DELETE", "/mailboxes/ann@once.test/aliases/sales@once.test").status_code == 204
    assert code(ours.ask("DELETE", "/mailboxes/ann@once.test/aliases/sales@once.test")) == (404, "not_found")


@pytest.mark.parametrize("locked", ["postgresql"], indirect=True)  # SQLite has one writer at a time
def test_an_alias_of_a_mailbox_that_is_deleted_meanwhile_is_refused(locked):
    ours = Tenant(locked, "brief")
    ours.add("ann")
    waiting, engine = text("SELECT count(*) FROM pg_locks WHERE NOT granted"), locked.services.db.engine
    with ThreadPoolExecutor(1) as other, engine.connect() as lock, engine.connect() as looking:
        lock.execute(text("SELECT id FROM tenants WHERE id = :id FOR UPDATE"), {"id": ours.id})
        alias = other.submit(ours.ask, "POST", "/mailboxes/ann@brief.test/aliases", address="sales@brief.test")
        until(lambda: looking.execute(waiting).scalar(), what="the alias, which waits")
        assert ours.ask("DELETE", "/mailboxes/ann@brief.test").status_code == 204
        lock.rollback()
        assert code(alias.result()) == (404, "not_found")
    assert ours.where("sales", "ann") == ["550 5.1.1"] * 2


def test_addresses_lead_to_mailboxes_by_name_alias_plus_and_catch_all_in_this_order(locked):
    ours = Tenant(locked, "leads")
    ours.add("ann")
    ours.add("bob")
    ours.ask("POST", "/mailboxes/bob@leads.test/aliases", address="sales@leads.test")
    assert ours.where("ann", "ANN+x", "sales", "Sales+2026", "nobody") == ["ann", "ann", "bob", "bob", "550 5.1.1"]
    ours.add("rest", catch_all=True)
    assert code(ours.ask("PATCH", "/mailboxes/ann@leads.test", catch_all=True)) == (409, "conflict")
    assert ours.where("ann+", "nobody", "+x", "rest") == ["ann", "rest", "rest", "rest"]
    db = locked.services.db
    (refused,) = resolve(db, LocalDomains(db), ["ann@elsewhere.test"]).values()
    assert (refused.code, refused.enhanced) == (550, "5.7.1")


def fill(tenant: Tenant, mailbox: dict, size: int) -> None:
    """Put a mail of so many octets into a mailbox."""
    content = {"id": new_id(), "tenant_id": UUID(tenant.id), "delivery_id": new_id(), "raw": b"x"}
    now, texts = datetime.now(UTC), ("mail_from", "rcpt_to", "subject", "sender", "message_id_header")
    mail = {"id": new_id(), "tenant_id": UUID(tenant.id), "content_id": content["id"], "message_id": new_id()}
    mail |= {"mailbox_id": UUID(mailbox["id"]), "delivery_id": new_id(), "received_at": now, "has_attachments": False}
    with tenant.locked.services.db.write() as session:
        session.execute(insert(MAILBOX_CONTENTS), [content | {"created_at": now}])
        session.execute(insert(MAILBOX_MESSAGES), [mail | {"size": size} | dict.fromkeys(texts, "")])
        used = {"used_messages": MAILBOXES.c.used_messages + 1, "used_bytes": MAILBOXES.c.used_bytes + size}
        session.execute(update(MAILBOXES).where(MAILBOXES.c.id == mail["mailbox_id"]).values(**used))


def test_a_full_mailbox_refuses_mail_for_now_and_what_never_fits_for_good(locked):
    ours = Tenant(locked, "full")
    octets, number = ours.add("octets", quota_bytes=100), ours.add("number", quota_messages=1)
    assert ours.where("octets", "number", size=100) == ["octets", "number"]
    assert ours.where("octets", size=101) == ["552 5.3.4"]
    fill(ours, octets, 60)
    fill(ours, number, 60)
    assert ours.where("octets", "number", size=40) == ["octets", "452 4.2.2"]
    assert ours.where("octets", size=41) == ["452 4.2.2"]
    assert (ours.ask("GET", "/mailboxes/octets@full.test").json()["size"]) == 60
    assert ours.ask("DELETE", "/mailboxes/octets@full.test").status_code == 204
    assert ours.where("octets") == ["550 5.1.1"]


def test_mail_of_other_tenants_stays_here_only_if_an_administrator_made_the_domain_local(locked):
    ours, others = Tenant(locked, "mine"), Tenant(locked, "yours")
    db, path = locked.services.db, "/domains/mine.test"
    admin = locked.key(ours.id, scopes=["domains", "admin"])["key"]

    def whose() -> list[bool]:
        local = LocalDomains(db).of("mine.test")
        return [local.takes_from(UUID(one.id)) for one in (ours, others)]

    assert whose() == [True, False]
    assert locked.ask("PATCH", path, admin, json={"local": True}).status_code == 200
    assert whose() == [True, True]
    assert ours.ask("PATCH", path, local=True).status_code == 200
    assert whose() == [True, False]


def test_only_an_administrator_makes_a_name_of_this_server_local(locked):
    ours, name = Tenant(locked, "hijack"), locked.services.settings.HOSTNAME
    refused = ours.ask("POST", "/domains", name=name.upper(), local=True)
    assert code(refused) == (403, "forbidden")
    assert ours.ask("POST", "/domains", name=name).status_code == 201
    assert ours.ask("PATCH", f"/domains/{name}", local=True).status_code == 403
    admin = locked.key(ours.id, scopes=["domains", "admin"])["key"]
    assert locked.ask("PATCH", f"/domains/{name}", admin, json={"local": True}).json()["local"] is True


def test_only_an_administrator_takes_the_mail_of_a_domain_that_another_tenant_signs(locked):
    ours, others = Tenant(locked, "signs"), Tenant(locked, "takes")
    assert ours.ask("POST", "/domains", name="signed.test").status_code == 201
    assert others.ask("POST", "/domains", name="signed.test", local=True).status_code == 201  # nothing is proved yet
    assert others.ask("PATCH", "/domains/signed.test", local=False).status_code == 200
    with locked.services.db.write() as session:
        session.execute(update(DKIMKey).where(DKIMKey.tenant_id == UUID(ours.id)).values(active_from=datetime.now(UTC)))
    assert code(others.ask("PATCH", "/domains/signed.test", local=True)) == (409, "conflict")
    assert ours.ask("PATCH", "/domains/signed.test", local=True).status_code == 200


def test_a_domain_becomes_local_and_is_no_longer(locked):
    ours, others = Tenant(locked, "comes"), Tenant(locked, "goes")
    assert others.ask("GET", "/domains/comes.test/exists").json() == {"exists": True, "local": True}
    assert others.ask("GET", "/domains/nowhere.test/exists").json() == {"exists": False, "local": False}
    ours.add("ann")
    shown = ours.ask("PATCH", "/domains/comes.test", local=False).json()
    assert not shown["local"]
    assert ours.where("ann") == ["550 5.7.1"]
    assert others.ask("POST", "/domains", name="comes.test", local=True).status_code == 201
    assert code(ours.ask("PATCH", "/domains/comes.test", local=True)) == (409, "conflict")
    assert ours.where("ann") == ["550 5.1.1"]  # the mailbox of the former owner gets none of the new one's mail


def test_the_bytes_of_deleted_mail_are_deleted_after_a_day_and_others_stay(locked):
    ours = Tenant(locked, "bytes")
    db, mailbox, kept = locked.services.db, ours.add("ann"), ours.add("bob")
    for one in (mailbox, kept):
        fill(ours, one, 1)
    own = MAILBOX_CONTENTS.c.tenant_id == UUID(ours.id)

    def left() -> int:
        UnusedContents(db).forget()
        with db.read() as session:
            return session.scalar(select(func.count()).select_from(MAILBOX_CONTENTS).where(own))

    assert ours.ask("DELETE", "/mailboxes/ann@bytes.test").status_code == 204
    assert left() == 2
    with db.write() as session:
        session.execute(update(MAILBOX_CONTENTS).where(own).values(created_at=datetime.now(UTC) - 2 * KEPT))
    assert left() == 1


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("Ann@A.test", ["ann@a.test"]),
        ("ann+x+y@a.test", ["ann+x+y@a.test", "ann@a.test"]),
        ("+x@a.test", ["+x@a.test"]),
        ('"a+b c"@a.test', ['"a+b c"@a.test']),
    ],
)
def test_names_of_an_address(address, found):
    assert list(names(address)) == found
