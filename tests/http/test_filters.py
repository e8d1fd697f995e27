"""Which messages a list shows: each filter alone and with others, on both databases."""

from urllib.parse import quote
from uuid import uuid4

import pytest

from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from mailbbgun.events.kinds import Kind, Reason
from mailbbgun.messages import repo
from mailbbgun.messages.models import DELIVERIES
from tests.http.outcomes import claim, end, fail, ids

LONG = "a" * 59 + "…"  # the part of a long value that an error shows


@pytest.fixture
def domain() -> str:
    """A domain of this test alone."""
    return f"{uuid4().hex}.example"


def found(door, query):
    """Return the ids in a list. Its count must be right. The query is sent as it is written."""
    answer = door.call("GET", f"/messages?{query}")
    assert answer.status_code == 200, answer.text
    assert answer.json()["count"] == len(answer.json()["messages"])
    return ids(answer.json())


def test_a_plus_in_an_address_is_a_plus_however_it_is_written(door, domain):
    plus = door.send(to=f"ann+t@{domain}")
    plain = door.send(to=f"ann@{domain}")
    blank = door.send(to=f"annt@{domain}")
    assert (
        found(door, f"to=ann+t@{domain}")
        == found(door, f"to=ann%2Bt@{domain}")
        == found(door, f"to=ANN%2Bt%40{domain}&limit=5")
        == [plus]
    )
    assert found(door, f"to=%20ann@{domain}%20") == [plain]
    assert found(door, f"%74o=ann+t@{domain}") == [plus]  # %74 is t
    assert found(door, f"to=ann%20t@{domain}") == []
    assert found(door, f"domain={domain}") == [blank, plain, plus]


def test_an_address_in_needless_quotes_is_found_as_it_is_kept(door, domain):
    plain, quoted = door.send(to=f'"ann"@{domain}'), door.send(to=f'"a..b"@{domain}')
    assert found(door, f"to={quote(chr(34) + 'ann' + chr(34))}@{domain}") == found(door, f"to=ann@{domain}") == [plain]
    assert found(door, f"to={quote(chr(34) + 'a..b' + chr(34))}@{domain.upper()}") == [quoted]


def test_a_plus_in_a_sender_and_in_a_message_id_is_a_plus_and_in_a_subject_a_blank(door, domain):
    sent = door.send(
        **{"from": f"Shop <shop+eu@{domain}>", "message_id_header": f"<a+b/c@{domain}>", "subject": f"one two {domain}"}
    )
    assert found(door, f"from=shop+eu@{domain}") == found(door, f"from=shop%2Beu@{domain}") == [sent]
    assert (
        found(door, f"message_id_header=a+b/c@{domain}")
        == found(door, f"message_id_header=%3Ca%2Bb%2Fc@{domain}%3E")
        == [sent]
    )
    assert found(door, f"subject=one+two+{domain}") == found(door, f"subject=one%20two%20{domain}") == [sent]
    assert found(door, f"subject=one%2Btwo+{domain}") == []


def test_links_keep_a_plus_a_plus_through_all_pages(door, domain):
    sent = [door.send(to=f"ann+t@{domain}", subject=f"a b+{domain}") for _ in range(5)][::-1]
    door.send(to=f"ann@{domain}")
    walked, path = [], f"/messages?to=ann+t@{domain}&subject=a+b%2B{domain}&limit=2"
    while path:
        answer = door.call("GET", path)
        assert answer.json()["count"] == 5
        walked += ids(answer.json())
        path = answer.links["next"]["url"].removeprefix(door.url) if answer.links else None
    assert walked == sent


def test_from_finds_the_address_beside_any_name_in_any_case(door, domain):
    named = door.send(**{"from": f'"Lee, Ann <x>" <Ann@{domain}>'})
    bare = door.send(**{"from": f"ANN@{domain}"})
    other = door.send(**{"from": f"joann@{domain}"})
    for spelt in (f"ann@{domain}", f"ANN@{domain.upper()}", f"Ann Lee <ann@{domain}>", f"<ann@{domain}>"):
        assert found(door, f"from={quote(spelt)}") == [bare, named]
    assert found(door, f"from=joann@{domain}") == [other]
    assert found(door, f"from=x@{domain}") == found(door, f"from=nn@{domain}") == []
    idn = door.send(**{"from": f"ann@bücher.{domain}"})
    assert (
        found(door, f"from={quote(f'ann@BÜCHER.{domain}')}") == found(door, f"from=ann@xn--bcher-kva.{domain}") == [idn]
    )


def test_domain_finds_recipients_of_a_domain_but_not_of_its_subdomains(door, domain):
    sent = door.send(to="x@example.com", bcc=f"Ann@{domain}")
    below = door.send(to=f"ann@mail.{domain}")
    idn = door.send(to=f"ann@bücher.{domain}")
    assert found(door, f"domain={domain}") == found(door, f"domain=@{domain.upper()}.") == [sent]
    assert found(door, f"domain=mail.{domain}") == [below]
    assert found(door, f"domain={quote(f'BÜCHER.{domain}')}") == found(door, f"domain=xn--bcher-kva.{domain}") == [idn]


def test_subject_finds_a_part_in_any_case_and_no_character_is_a_wildcard(door, tag):
    subjects = ["Rechnung Nº 17 für Ärger", "100% off_now [new] \\ * ? . ^ $", "日本語の件名", "ΟΔΟΣ straße"]
    sent = {subject: door.send(subject=f"{subject} {tag}") for subject in subjects}
    for part, subject in {
        "rechnung": 0, "RECHNUNG nº 17 FÜR äRGER": 0, "100%": 1, "off_": 1, "[NEW]": 1, "\\ *": 1, "? . ^ $": 1,
        "語の": 2, "οδοσ": 3, "STRAßE": 3,
    }.items():  # fmt: skip
        assert sent[subjects[subject]] in found(door, f"subject={quote(part)}&limit=1000"), part
        assert found(door, f"subject={quote(f'{subjects[subject]} {tag}'.upper().replace('SS', 'ß'))}") == [
            sent[subjects[subject]]
        ]
    for part in ("100_", "o%f", "Rech*g", "Rech.ung", "[a-z]echnung", "Rechnung%17", "?echnung"):
        assert not set(found(door, f"subject={quote(part)}&limit=1000")) & set(sent.values()), part


def test_a_message_id_header_finds_what_a_client_gave_and_what_we_made(door, domain):
    given = door.send(message_id_header=f"<Order-17@{domain}>")
    assert door.get(f"/messages/{given}")["message_id_header"] == f"<Order-17@{domain}>"
    for header in (f"<Order-17@{domain}>", f"Order-17@{domain}", f" <Order-17@{domain}> "):
        assert found(door, f"message_id_header={quote(header)}") == [given]
    assert found(door, f"message_id_header=order-17@{domain}") == []  # RFC 5322 §3.6.4: its case matters
    made = door.send()
    header = door.get(f"/messages/{made}")["message_id_header"]
    assert (
        found(door, f"message_id_header={quote(header)}")
        == found(door, f"message_id_header={quote(header[1:-1])}")
        == [made]
    )
    # A client's Message-ID may look like ours, and contain another message's id.
    posed = door.send(message_id_header=f"<{made}@{domain}>")
    twice = [door.send(message_id_header=f"<{new_id()}@{domain}>") for _ in range(2)]
    assert found(door, f"message_id_header={made}@{domain}") == [posed]
    own = door.get(f"/messages/{twice[1]}")["message_id_header"]
    assert found(door, f"message_id_header={quote(own)}") == [twice[1]]
    assert found(door, f"message_id_header={made}@other.example") == []


def test_reason_finds_messages_of_which_a_delivery_failed_for_it_and_each_list_shows_it(door, tag, domain):
    fine = door.send(tags=[tag], to=f"ann@{domain}")
    bounced = door.send(tags=[tag], to=[f"ann@{domain}", f"ben@x.{domain}"])
    fail(door, bounced)
    expired = door.send(tags=[tag], to=f"ben@{domain}")
    end(door, expired, Kind.EXPIRED, "ERROR", reason=Reason.EXPIRED)
    assert found(door, f"tag={tag}&reason=bounced") == found(door, f"tag={tag}&reason=BOUNCED") == [bounced]
    assert found(door, f"tag={tag}&reason=expired") == [expired]
    assert found(door, f"tag={tag}&reason=parked") == []
    shown = {one["id"]: one["reason"] for one in door.get("/messages", tag=tag)["messages"]}
    assert shown == {fine: None, bounced: "bounced", expired: "expired"}
    assert [door.get(f"/messages/{one}")["reason"] for one in (fine, bounced)] == [None, "bounced"]
    assert door.call("POST", f"/messages/{expired}/retry").json()["reason"] is None
    assert found(door, f"tag={tag}&reason=expired") == []


def test_of_several_reasons_a_list_shows_the_gravest_while_others_wait(door, tag):
    identifier = door.send(tags=[tag], to=["a@example.com", "b@example.com", "c@example.com"], bcc="d@example.com")
    first, second, third, _ = claim(door, identifier)
    for one, reason in ((first, "expired"), (second, "bounced"), (third, "outcome_unknown")):
        with door.services.db.write() as session:
            ended = {"status": "ERROR", "reason": reason, "lease_owner": None}
            session.execute(DELIVERIES.update().where(DELIVERIES.c.id == one).values(**ended))
        (message,) = door.get("/messages", tag=tag)["messages"]
        assert (message["reason"], message["status"], len(message["to"])) == (reason, "PENDING", 3)


def test_to_domain_and_reason_must_match_the_same_delivery(door, domain):
    identifier = door.send(to=[f"ann@{domain}", f"ben@other.{domain}"])
    ann, _ = claim(door, identifier)
    with door.services.db.write() as session:
        session.execute(
            DELIVERIES.update().where(DELIVERIES.c.id == ann).values(status="ERROR", reason="bounced", lease_owner=None)
        )
    assert (
        found(door, f"domain={domain}&reason=bounced") == found(door, f"to=ann@{domain}&reason=bounced") == [identifier]
    )
    assert (
        found(door, f"domain=other.{domain}&reason=bounced")
        == found(door, f"to=ben@other.{domain}&reason=bounced")
        == []
    )
    assert found(door, f"to=ann@{domain}&domain=other.{domain}") == []


def test_all_filters_go_together(door, tag, domain):
    sent = door.send(
        **{
            "from": f"Shop <shop@{domain}>",
            "to": f"ann@{domain}",
            "tags": [tag],
            "message_id_header": f"<1@{domain}>",
            "subject": "Your Invoice 17",
        }
    )
    fail(door, sent)
    every = {
        "from": f"shop@{domain}", "to": f"ann@{domain}", "domain": domain, "tag": tag,
        "message_id_header": f"1@{domain}", "subject": "invoice",
        "reason": "bounced", "status": "error", "test": "false", "since": "2020-01-01", "until": "2100-01-01",
    }  # fmt: skip
    assert ids(door.get("/messages", **every)) == [sent]
    other = {
        "from": f"shop@x.{domain}", "to": f"ben@{domain}", "domain": "example.com", "tag": "x",
        "message_id_header": f"2@{domain}", "subject": "offer", "reason": "expired", "status": "pending",
        "test": "true", "since": "2100-01-01", "until": "2020-01-01",
    }  # fmt: skip
    for name, value in other.items():
        assert door.get("/messages", **every | {name: value}) == {"messages": [], "count": 0}, name


def test_the_longest_values_that_are_accepted_are_found(door, tag):
    header, address, label = (
        f"<{'a' * 236}@example.com>",
        f"{tag}{'a' * 30}@{'.'.join(['d' * 47] * 4)}",
        tag.ljust(128, "x"),
    )
    sent = door.send(message_id_header=header, to=address, tags=[label], subject=tag + "ä" * 168)
    assert (len(header), len(address)) == (250, 254)
    for query in (
        f"message_id_header={header}",
        f"to={address}",
        f"tag={label}",
        f"domain={address.partition('@')[2]}",
        f"subject={tag}{'Ä' * 168}",
    ):
        assert sent in found(door, query), query


@pytest.mark.parametrize(
    ("query", "field", "sentence"),
    [
        ("to=ann+t", "to", '"ann+t": Not a bare e-mail address, like ann@example.com.'),
        ("from=ann", "from", '"ann": Not a bare e-mail address, like ann@example.com.'),
        ("from=", "from", '"": Not a bare e-mail address, like ann@example.com.'),
        ("domain=ann@example.com", "domain", '"ann@example.com": Not a domain, like example.com.'),
        ("domain=", "domain", '"": Not a domain, like example.com.'),
        ("message_id_header=17", "message_id_header", '"17": Not a Message-ID, like <1234@example.com>.'),
        ("subject=", "subject", 'Must have 1 to 200 characters; "" has none.'),
        ("tag=", "tag", 'Must have 1 to 128 characters; "" has none.'),
        (f"tag={'a' * 129}", "tag", f'Must have 1 to 128 characters; "{LONG}" has 129.'),
        (f"subject={'a' * 201}", "subject", f'Must have 1 to 200 characters; "{LONG}" has 201.'),
        (f"to={'a' * 243}@example.com", "to", f'Must have at most 254 characters; "{LONG}" has 255.'),
        (f"from={'a' * 8000}", "from", f'Must have at most 254 characters; "{LONG}" has 8000.'),
        (f"domain={'a.' * 4000}", "domain", f'Must have at most 253 characters; "{"a." * 29}a…" has 8000.'),
        (f"message_id_header=a{'@' * 7900}%20x", "message_id_header",
            f'Must have at most 292 characters; "a{"@" * 58}…" has 7903.'),
        ("reason=spam", "reason",
            "Must be bounced, expired, outcome_unknown, parked, attachment_damaged, suppressed or duplicate, "
            'not "spam".'),
        ("status=gone", "status", 'Must be PENDING, DELIVERED, ERROR or CANCELLED, not "gone".'),
        ("test=maybe", "test", 'Must be true or false, not "maybe".'),
        ("since=yesterday", "since",
            'Must be a time as in RFC 3339, such as 2026-01-31T12:00:00Z, or a date, not "yesterday".'),
        ("limit=1001", "limit", 'Must be an integer from 0 to 1000, not "1001".'),
        ("limit=x", "limit", 'Must be an integer from 0 to 1000, not "x".'),
        ("after=17", "after", 'Must be a UUID, such as 019cdb4a-7c00-7000-8000-00000000002a, not "17".'),
        ("limit=1&limit=2", "limit", "`limit` is given 2 times; give it once."),
        ("form=x", "form", "Unknown parameter `form`; did you mean `from`?"),
        ("recipient=x", "recipient",
            "Unknown parameter `recipient`; the parameters here are `limit`, `offset`, `after`, `status`, `reason`, "
            "`to`, `domain`, `medium`, `channel`, `from`, `subject`, `message_id_header`, `tag`, `batch_id`, `test`, "
            "`received`, `since` and `until`."),
    ],
)  # fmt: skip
def test_a_bad_filter_is_told_with_its_value_and_what_would_be_right(door, query, field, sentence):
    answer = door.call("GET", f"/messages?{query}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "validation_error")
    assert answer.json()["error"]["fields"] == {field: [sentence]}


def test_no_filter_finds_another_tenants_message(door, tag, domain):
    sent = door.send(
        **{
            "from": f"shop@{domain}",
            "to": f"ann@{domain}",
            "tags": [tag],
            "message_id_header": f"<1@{domain}>",
            "subject": f"Invoice {domain}",
        }
    )
    fail(door, sent)
    own = door.get(f"/messages/{door.send()}")["message_id_header"]
    each = {
        "sender": f"shop@{domain}", "to": f"ann@{domain}", "domain": domain, "message_id_header": f"1@{domain}",
        "subject": domain,
        "reason": "bounced",
    }  # fmt: skip
    for name, value in [*each.items(), ("message_id_header", own)]:
        for tenant, count in ((DEFAULT_TENANT, True), (uuid4(), False)):
            with door.services.db.read(tenant) as session:
                shown, found, _ = repo.page(
                    session, repo.Wanted(tenant_id=tenant, limit=10, offset=0, after=None, **{name: value})
                )
            assert (bool(shown), bool(found)) == (count, count), name
