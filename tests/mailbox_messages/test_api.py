"""The mail in a mailbox through the front door: listed, read, moved, deleted; and nobody else's."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode
from uuid import UUID

import pytest
import requests
from sqlalchemy import insert

from mailbbgun.core.ids import new_id
from mailbbgun.mailboxes.models import MAILBOX_CONTENTS, MAILBOX_MESSAGES, MAILBOX_WORDS
from mailbbgun.mailboxes.words import words_of
from mailbbgun.mime_reading.read import searchable
from tests.tenants.conftest import Locked, code, opened

MAIL = (
    b"From: =?iso-8859-1?Q?J=F6rg?= <joerg@far.test>\r\nTo: ann@read.test\r\nSubject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\n"
    b"Date: Fri, 4 May 2001 14:05:44 -0400\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: multipart/alternative; boundary=c\r\n\r\n"
    b"--c\r\nContent-Type: text/plain; charset=windows-1251\r\n\r\n" + "Привет".encode("cp1251") + b"\r\n"
    b"--c\r\nContent-Type: text/html\r\n\r\n<p onclick=x()>Hi<script>x()</script><img src=cid:logo@x>"
    b"<img src=https://far.test/spy.png></p>\r\n--c--\r\n"
    b"--b\r\nContent-Type: image/png\r\nContent-ID: <logo@x>\r\nContent-Transfer-Encoding: base64\r\n\r\niVBO\r\n"
    b"--b\r\nContent-Type: text/html\r\nContent-Disposition: attachment; filename*=utf-8''%C3%BC.html\r\n\r\n"
    b"<script>x()</script>\r\n--b--\r\n"
)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def locked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    settings = {}
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql")
        settings["DATABASE_URL"] = server.url(server.create_database())
    with opened(tmp_path_factory.mktemp("mail"), 1, **settings) as door:
        yield door


class Reader:
    """A tenant with a mailbox."""

    def __init__(self, locked: Locked, name: str) -> None:
        self.locked, self.tenant, self.address = locked, locked.tenant(name), f"ann@{name}.test"
        self.key = locked.key(self.tenant, scopes=["domains", "mailboxes"])["key"]
        assert self.ask("POST", "/domains", json={"name": f"{name}.test", "local": True}).status_code == 201
        made = self.ask("POST", "/mailboxes", json={"address": self.address})
        assert made.status_code == 201, made.text
        self.mailbox = made.json()["id"]
        self.messages = f"/mailboxes/{self.address}/messages"

    def ask(self, method: str, path: str, **options: object) -> requests.Response:
        return self.locked.ask(method, path, self.key, **options)

    def keep(self, raw: bytes = MAIL, **columns: object) -> str:
        """Put a mail into the mailbox, as a delivery does."""
        delivery = new_id()
        content = {"id": new_id(), "tenant_id": UUID(self.tenant), "delivery_id": delivery, "raw": raw}
        mail = {"id": new_id(), "tenant_id": UUID(self.tenant), "mailbox_id": UUID(self.mailbox)}
        mail |= {"content_id": content["id"], "delivery_id": delivery, "message_id": new_id()}
        mail |= {"received_at": datetime.now(UTC), "mail_from": "joerg@far.test", "rcpt_to": self.address}
        mail |= {"subject": "Grüße", "sender": "Jörg <joerg@far.test>", "message_id_header": "", "size": len(raw)}
        with self.locked.services.db.write() as session:
            session.execute(insert(MAILBOX_CONTENTS), [content | {"created_at": datetime.now(UTC)}])
            words = {"content_id": content["id"], "tenant_id": UUID(self.tenant), "words": words_of(searchable(raw))}
            session.execute(insert(MAILBOX_WORDS), [words])
            session.execute(insert(MAILBOX_MESSAGES), [mail | {"has_attachments": True} | columns])
        return str(mail["id"])

    def listed(self, query: str = "") -> list[str]:
        answer = self.ask("GET", f"{self.messages}?limit=100&{query}")
        assert answer.status_code == 200, answer.text
        assert answer.json()["count"] == len(answer.json()["messages"])
        return [one["id"] for one in answer.json()["messages"]]


def test_a_mail_is_shown_as_it_was_meant_and_its_html_is_safe(locked):
    ann = Reader(locked, "read")
    mail = ann.keep()
    found = ann.ask("GET", f"{ann.messages}/{mail}").json()
    assert (found["from"], found["subject"], found["folder"], found["read"]) == (
        "Jörg <joerg@far.test>", "Grüße", "INBOX", False,
    )  # fmt: skip
    assert (found["to"], found["cc"], found["date"]) == (["ann@read.test"], [], "2001-05-04T18:05:44.000Z")
    assert {"name": "Subject", "value": "Grüße"} in found["headers"]
    assert (found["text"], found["problems"]) == ("Привет", [])
    picture, page = found["attachments"]
    assert found["html"] == f'<p>Hi<img src="{picture["url"]}"><img></p>'
    assert (picture["content_id"], picture["inline"], picture["size"]) == ("logo@x", True, 3)
    assert (page["filename"], page["inline"]) == ("ü.html", False)
    remote = ann.ask("GET", f"{ann.messages}/{mail}?remote=true").json()
    assert '<img src="https://far.test/spy.png">' in remote["html"]


def test_the_bytes_and_files_of_a_mail_are_downloads_that_run_nothing(locked):
    ann = Reader(locked, "bytes")
    mail = ann.keep()
    raw = ann.ask("GET", f"{ann.messages}/{mail}/raw")
    assert raw.content == b"Return-Path: <joerg@far.test>\r\nDelivered-To: ann@bytes.test\r\n" + MAIL
    assert raw.headers["Content-Type"] == "message/rfc822"
    file = ann.ask("GET", f"{ann.messages}/{mail}/attachments/1")
    assert file.content == b"<script>x()</script>"
    for answer in (raw, file):
        assert answer.headers["Content-Disposition"].startswith("attachment; ")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Security-Policy"].startswith("sandbox;")
    assert "UTF-8''%C3%BC.html" in file.headers["Content-Disposition"]
    assert ann.ask("GET", f"{ann.messages}/{mail}/attachments/0").content == b"\x89PN"
    assert code(ann.ask("GET", f"{ann.messages}/{mail}/attachments/2")) == (404, "not_found")


@pytest.mark.parametrize(
    "raw", [b"", b"\x00\xff\r\n\r\n\xd0", b"no header at all", b"Content-Type: multipart/mixed\r\n\r\n"]
)
def test_a_mail_that_is_none_is_shown_too(locked, raw):
    ann = Reader(locked, f"none{new_id().hex[-8:]}")
    mail = ann.keep(raw)
    assert ann.ask("GET", f"{ann.messages}/{mail}").status_code == 200
    assert ann.ask("GET", f"{ann.messages}/{mail}/raw").content.endswith(raw)


def test_mail_is_listed_newest_first_by_filters_and_pages(locked):
    ann = Reader(locked, "list")
    day = datetime(2026, 1, 2, 12, tzinfo=UTC)
    old = ann.keep(subject="Invoice 7", sender="Shop <shop@far.test>", received_at=day - timedelta(days=1))
    read = ann.keep(read=True, received_at=day)
    other = ann.keep(folder="Archive", rcpt_to="ann+x@list.test", received_at=day)
    assert ann.listed() == [other, read, old]
    assert ann.listed("folder=inbox") == [read, old]
    assert ann.listed("folder=Archive") == [other]
    assert ann.listed("read=true") == [read]
    assert ann.listed("read=false") == [other, old]
    assert ann.listed("from=SHOP@") == [old]
    assert ann.listed("subject=grÜße") == [other, read]
    assert ann.listed("to=ANN%2Bx") == [other]
    assert ann.listed("since=2026-01-02") == [other, read]
    assert ann.listed("until=2026-01-02") == [old]
    first = ann.ask("GET", f"{ann.messages}?limit=2&folder=INBOX&subject=e")
    assert (first.json()["count"], len(first.json()["messages"])) == (2, 2)
    page = ann.ask("GET", f"{ann.messages}?limit=1")
    assert f"after={other}" in page.headers["Link"]
    assert [one["id"] for one in ann.ask("GET", f"{ann.messages}?limit=1&after={other}").json()["messages"]] == [read]
    assert ann.ask("GET", f"{ann.messages}?limit=0").json() == {"messages": [], "count": 3}
    assert code(ann.ask("GET", f"{ann.messages}?folder=%07")) == (400, "validation_error")


TEXTS = {
    "english": "Re: =?utf-8?q?caf=C3=A9?=\r\n\r\nYour INVOICES of May_12 are overdue.",
    "russian": "Счёт\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nЗдравствуйте! ОПЛАТИТЕ счёт, пожалуйста.",
    "japanese": "見積\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n添付の見積書をご確認ください。ﾃｽﾄ",
    "html": "Hi\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<style>.overdue{}</style><td>Straße</td><td>for&shy;"
    "<b>ty</b>two</td>",
}


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("invoice", ["english"]),
        ("OVERDUE may", ["english"]),
        ("overdue june", []),
        ("voices", []),
        ("CAFÉ", ["english"]),
        ("far.test", [*TEXTS]),
        ("оплатите СЧЁТ", ["russian"]),
        ("見積書", ["japanese"]),
        ("確認", ["japanese"]),
        ("積", ["japanese"]),
        ("書積", []),
        ("テスト", ["japanese"]),
        ("STRASSE", ["html"]),
        ("fortytwo", ["html"]),
        ("' | zz:* %%", []),
    ],
)
def test_mail_is_found_by_words_of_its_text_in_any_script(searched, search, found):
    reader, kept = searched
    listed = reader.listed(urlencode({"search": search}))
    assert sorted(name for name in TEXTS if kept[name] in listed) == sorted(found)
    assert len(listed) == len(found)


@pytest.fixture(scope="module")
def searched(locked):
    reader = Reader(locked, "search")
    mails = {name: f"From: x@far.test\r\nSubject: {text}\r\n".encode() for name, text in TEXTS.items()}
    return reader, {name: reader.keep(raw) for name, raw in mails.items()}


def test_what_cannot_be_searched_for_is_told(searched):
    reader, _ = searched
    for wrong in ("%20", "!%20_", "x" * 201):
        answer = reader.ask("GET", f"{reader.messages}?search={wrong}")
        assert (code(answer), [*answer.json()["error"]["fields"]]) == ((400, "validation_error"), ["search"]), wrong


def test_mail_is_marked_moved_counted_and_deleted(locked):
    ann = Reader(locked, "move")
    empty = ann.ask("GET", f"/mailboxes/{ann.address}/folders").json()
    assert empty == {"folders": [{"name": "INBOX", "messages": 0, "unread": 0}]}
    first, second = ann.keep(), ann.keep()
    changed = ann.ask("PATCH", f"{ann.messages}/{first}", json={"read": True, "folder": " Archive  2026 "}).json()
    assert (changed["read"], changed["folder"]) == (True, "Archive 2026")
    assert ann.ask("PATCH", f"{ann.messages}/{first}", json={}).json() == changed
    assert ann.ask("GET", f"/mailboxes/{ann.mailbox}/folders").json()["folders"] == [
        {"name": "INBOX", "messages": 1, "unread": 1},
        {"name": "Archive 2026", "messages": 1, "unread": 0},
    ]
    for wrong in (
        {"read": "yes"},
        {"folder": ""},
        {"folder": "  "},
        {"folder": "a\nb"},
        {"folder": "x" * 201},
        {"x": 1},
    ):
        assert code(ann.ask("PATCH", f"{ann.messages}/{first}", json=wrong)) == (400, "validation_error"), wrong
    assert ann.ask("DELETE", f"{ann.messages}/{first}").status_code == 204
    assert code(ann.ask("DELETE", f"{ann.messages}/{first}")) == (404, "not_found")
    assert ann.listed() == [second]


def test_nobody_else_reads_it(locked):
    ann, eve = Reader(locked, "ours"), Reader(locked, "theirs")
    mail, hers = ann.keep(), eve.keep()
    for path in (ann.messages, f"{ann.messages}/{mail}", f"{eve.messages}/{mail}", f"{eve.messages}/{mail}/raw"):
        assert code(eve.ask("GET", path)) == (404, "not_found")
    # Nor by another mailbox of the same tenant.
    assert ann.ask("POST", "/mailboxes", json={"address": "bob@ours.test"}).status_code == 201
    assert code(ann.ask("GET", f"/mailboxes/bob@ours.test/messages/{mail}")) == (404, "not_found")
    assert code(ann.ask("PATCH", f"{ann.messages}/{hers}", json={"read": True})) == (404, "not_found")
    weak = locked.key(ann.tenant, scopes=["messages:read"])["key"]
    test = locked.key(ann.tenant, scopes=["mailboxes"], kind="test")["key"]
    assert [locked.ask("GET", ann.messages, key).status_code for key in (weak, test)] == [403, 403]
