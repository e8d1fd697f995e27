"""``POST /messages/batch`` and ``/batches``: many personal messages at once."""

from email import message_from_bytes, policy
from uuid import UUID, uuid4

import pytest

COMMON = {
    "from": "Shop <shop@example.com>",
    "subject": "Order {{ order }}",
    "text": "Dear {{ name }}, yours.",
    "html": "<p>{{ name }}</p>",
}


def people(n, first=0):
    return [
        {"to": f"Ann {i} <ann{i}@example.com>", "variables": {"name": f"A<{i}>", "order": i}}
        for i in range(first, first + n)
    ]


def post(door, body, **headers):
    return door.call("POST", "/messages/batch", json=body, headers=headers)


def accepted(door, **body):
    answer = post(door, COMMON | body)
    assert answer.status_code == 202, answer.text
    return answer.json()


def mail(door, identifier):
    raw = door.call("GET", f"/messages/{identifier}/raw").content
    return message_from_bytes(raw, policy=policy.default)


def texts(message):
    return [part.get_content().rstrip() for part in message.iter_parts()]


def refused(door, body, status=400):
    answer = post(door, body)
    assert answer.status_code == status, answer.text
    return answer.json()["error"]


def test_each_recipient_of_a_batch_gets_a_mail_of_its_own(door):
    answer = post(door, COMMON | {"recipients": people(3), "tags": ["march"], "priority": 3})
    assert answer.status_code == 202
    body = answer.json()
    assert (body["accepted"], body["refused"], body["errors"]) == (3, 0, [])
    assert answer.headers["Location"] == f"{door.url}/batches/{body['batch_id']}"
    assert len({UUID(one) for one in body["ids"]}) == 3
    for number, identifier in enumerate(body["ids"]):
        message = mail(door, identifier)
        assert message["To"] == f"Ann {number} <ann{number}@example.com>"
        assert message["Subject"] == f"Order {number}"
        assert message["Message-ID"].startswith(f"<{identifier}@")
        assert texts(message) == [f"Dear A<{number}>, yours.", f"<p>A&lt;{number}&gt;</p>"]
        shown = door.get(f"/messages/{identifier}")
        assert (shown["subject"], shown["to"]) == (f"Order {number}", [f"ann{number}@example.com"])
        assert (shown["tags"], shown["priority"], shown["status"]) == (["march"], 3, "PENDING")
    found = door.get("/messages", tag="march", limit=100)["messages"]
    assert {one["id"] for one in found} >= set(body["ids"])


def test_the_size_of_a_message_of_a_batch_is_about_that_of_its_mime(door):
    body = accepted(
        door, recipients=[*people(1), {"to": "x@example.com", "variables": {"name": "n" * 500, "order": 7}}]
    )
    for identifier in body["ids"]:
        size, real = (
            door.get(f"/messages/{identifier}")["size"],
            len(door.call("GET", f"/messages/{identifier}/raw").content),
        )
        assert abs(size - real) < 0.2 * real


def test_the_timeline_of_a_message_of_a_batch_begins_with_its_acceptance(door):
    (identifier,) = accepted(door, recipients=people(1))["ids"]
    (event,) = door.get(f"/messages/{identifier}/events")["events"]
    assert (event["kind"], event["data"]["recipients"]) == ("accepted", 1)
    door.call("DELETE", f"/messages/{identifier}")
    page = door.get(f"/messages/{identifier}/events")
    assert [one["kind"] for one in page["events"]] == ["cancelled", "accepted"]
    assert page["count"] == 2
    newest = door.get(f"/messages/{identifier}/events", limit=1)["events"]
    assert [one["kind"] for one in newest] == ["cancelled"]
    older = door.get(f"/messages/{identifier}/events", after=newest[0]["id"])["events"]
    assert [one["kind"] for one in older] == ["accepted"]
    assert door.get(f"/messages/{identifier}/events", after=older[0]["id"])["events"] == []


def test_recipients_share_variables_and_metadata_and_may_give_others(door):
    body = accepted(
        door,
        subject="{{ shop }}",
        text="{{ name }} of {{ shop }}",
        html=None,
        variables={"shop": "Books"},
        metadata={"campaign": 1, "kind": "a"},
        recipients=[
            {"to": "ann@example.com", "variables": {"name": "Ann"}},
            {"to": "ben@example.com", "variables": {"name": "Ben", "shop": "Toys"}, "metadata": {"kind": "b"}},
        ],
    )
    first, second = (mail(door, one) for one in body["ids"])
    assert (first["Subject"], first.get_content().strip()) == ("Books", "Ann of Books")
    assert (second["Subject"], second.get_content().strip()) == ("Toys", "Ben of Toys")
    assert door.get(f"/messages/{body['ids'][0]}")["metadata"] == {"campaign": 1, "kind": "a"}
    assert door.get(f"/messages/{body['ids'][1]}")["metadata"] == {"campaign": 1, "kind": "b"}


def test_the_same_address_twice_is_two_mails(door):
    one, two = people(2)
    body = accepted(door, recipients=[one, {**two, "to": one["to"]}])
    assert [mail(door, identifier)["Subject"] for identifier in body["ids"]] == ["Order 0", "Order 1"]


def test_without_variables_the_texts_of_a_batch_are_no_templates(door):
    body = accepted(door, subject="50 % {{ off }}", text="{% now", html=None, recipients=[{"to": "a@example.com"}])
    message = mail(door, body["ids"][0])
    assert (message["Subject"], message.get_content().strip()) == ("50 % {{ off }}", "{% now")


def test_a_percent_sign_in_a_subject_stays_one(door):
    body = accepted(door, subject="{{ name }}: 50 % off %s", recipients=people(1))
    assert mail(door, body["ids"][0])["Subject"] == "A<0>: 50 % off %s"


@pytest.mark.parametrize(
    ("source", "subject"),
    [
        ("{% if order > 0 %}Order{% else %}None{% endif %} {{ name|upper }}", "Order X"),
        ("  {{ name }}  {{ gone|default('!') }}", "x !"),
        ("{{ big }}", "1.5"),
        ("{{ name }}\n{{ order }}", "x 1"),
    ],
)
def test_a_template_that_does_more_than_name_variables_is_rendered_by_the_engine(door, source, subject):
    given = [{"to": "a@example.com", "variables": {"name": "x", "order": 1, "big": 1.5}}]
    body = accepted(door, subject=source.replace("\n", " "), recipients=given)
    assert mail(door, body["ids"][0])["Subject"] == subject
    assert door.get(f"/messages/{body['ids'][0]}")["subject"] == subject


def test_no_variable_breaks_out_of_the_subject(door):
    given = [{"to": "a@example.com", "variables": {"name": "x\r\nBcc: evil@example.com", "order": 1}}]
    body = accepted(door, subject="Dear {{ name }}", recipients=given)
    message = mail(door, body["ids"][0])
    assert (message["Subject"], message["Bcc"]) == ("Dear x Bcc: evil@example.com", None)


FAULTY = [
    ({"to": "nobody"}, "to"),
    ({"to": ""}, "to"),
    ({}, "to"),
    ({"to": ["a@example.com"]}, "to"),
    ({"to": "a@example.com, b@example.com"}, "to"),
    ({"to": "a@example.com", "variables": []}, "variables"),
    ({"to": "a@example.com", "metadata": {"deep": {}}}, "metadata"),
    ({"to": "a@example.com", "metadata": 7}, "metadata"),
    ({"to": "a@example.com", "cc": "b@example.com"}, "cc"),
    ({"to": "a@example.com", "variables": {"name": "Ann"}}, "subject"),
    ({"to": "a@example.com", "variables": {"name": "Ann", "order": "x" * 300}}, "subject"),
    ({"to": "a@example.com", "variables": {"name": ["a"], "order": 1}}, "text"),
    ({"to": "x@simulator", "variables": {"name": "Ann", "order": 1}}, "to"),
    ("a@example.com", ""),
    (None, ""),
]


@pytest.mark.parametrize(("item", "field"), FAULTY)
def test_one_faulty_recipient_refuses_the_whole_batch_and_is_named_by_place_and_field(door, item, field):
    before = door.get("/batches")["count"]
    error = refused(door, COMMON | {"recipients": [*people(2), item, *people(1)]})
    assert error["code"] == "validation_error"
    assert "1 of 4 recipients" in error["message"]
    assert f"recipients.2.{field}".rstrip(".") in error["fields"]
    assert door.get("/batches")["count"] == before


def test_partial_accepts_the_others_and_tells_what_is_wrong_with_each_item(door):
    items = [item for item, _ in FAULTY]
    body = accepted(door, mode="partial", recipients=[*people(2), *items, *people(1)])
    assert (body["accepted"], body["refused"]) == (3, len(FAULTY))
    assert [one["index"] for one in body["errors"]] == [2 + place for place in range(len(FAULTY))]
    for told, (_, field) in zip(body["errors"], FAULTY, strict=True):
        assert field in told["fields"]
        assert all(told["fields"].values())
    assert [one is None for one in body["ids"]] == [False, False, *[True] * len(FAULTY), False]
    assert door.get(f"/batches/{body['batch_id']}")["refused"] == len(FAULTY)


def test_partial_with_no_good_recipient_is_refused(door):
    assert "recipients.0.to" in refused(door, COMMON | {"mode": "partial", "recipients": [{"to": "nobody"}]})["fields"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "recipients"),
        ({"recipients": []}, "recipients"),
        ({"recipients": {}}, "recipients"),
        ({"recipients": [{"to": "a@example.com"}], "messages": [{}]}, "messages"),
        ({"recipients": [{"to": f"a{i}@example.com"} for i in range(1001)]}, "recipients"),
        ({"recipients": [{"to": "a@example.com"}], "mode": "some"}, "mode"),
        ({"recipients": [{"to": "a@example.com"}], "cc": "b@example.com"}, "cc"),
        ({"recipients": [{"to": "a@example.com"}], "to": "b@example.com"}, "to"),
        ({"recipients": [{"to": "a@example.com"}], "colour": "red"}, "colour"),
        ({"recipients": [{"to": "a@example.com"}], "from": "nobody"}, "from"),
        ({"recipients": [{"to": "a@example.com"}], "priority": 10}, "priority"),
        ({"recipients": [{"to": "a@example.com"}], "subject": None}, "subject"),
        ({"recipients": [{"to": "a@example.com"}], "text": None, "html": None}, "text"),
        ({"recipients": [{"to": "a@example.com", "variables": {"a": 1}}], "text": "{% include 'x' %}"}, "text"),
        ({"recipients": [{"to": "a@example.com"}], "variables": 7}, "variables"),
        ({"messages": [{"to": "a@example.com"}], "variables": {"a": 1}}, "variables"),
    ],
)
def test_a_fault_of_what_all_share_refuses_the_batch_and_names_the_field(door, body, field):
    assert field in refused(door, COMMON | {"mode": "partial"} | body)["fields"]


def test_an_error_counts_the_faulty_recipients(door):
    wrong, right = {"to": "nobody"}, {"to": "ann@example.com"}
    texts = {"subject": "s", "text": "t"}
    assert refused(door, texts | {"recipients": [wrong]})["message"].startswith("The only recipient is not valid")
    assert refused(door, texts | {"recipients": [wrong, right]})["message"].startswith("1 of 2 recipients is not")
    assert refused(door, texts | {"recipients": [wrong, wrong]})["message"].startswith("2 of 2 recipients are not")


def test_variables_of_a_message_without_a_template_are_refused_with_what_takes_them(door):
    answer = door.call("POST", "/messages", json={"to": "ann@example.com", **COMMON, "variables": {"name": "Ann"}})
    assert answer.status_code == 400
    assert "name that in `template`" in answer.json()["error"]["fields"]["variables"][0]


def test_a_list_of_whole_messages_is_a_batch_too(door):
    answer = post(
        door,
        {
            "from": "shop@example.com",
            "text": "Hello.",
            "messages": [
                {"to": "ann@example.com", "subject": "one"},
                {"to": ["ben@example.com", "cis@example.com"], "subject": "two", "text": "Other.", "priority": 1},
            ],
        },
    )
    assert answer.status_code == 202, answer.text
    body = answer.json()
    first, second = (mail(door, one) for one in body["ids"])
    assert (first["Subject"], first["From"], first.get_content().strip()) == ("one", "shop@example.com", "Hello.")
    assert (second["To"], second.get_content().strip()) == ("ben@example.com, cis@example.com", "Other.")
    shown = door.get(f"/batches/{body['batch_id']}")
    assert (shown["messages"], shown["statuses"]) == (2, {"PENDING": 2})
    (event,) = door.get(f"/messages/{body['ids'][1]}/events")["events"]
    assert (event["kind"], event["data"]["recipients"]) == ("accepted", 2)


def test_a_faulty_whole_message_is_named_by_place_and_field(door):
    good = {"to": "a@example.com", "subject": "s", "text": "t"}
    items = [good, {**good, "to": "nobody"}, {**good, "colour": "red"}, {"to": "a@example.com"}, 7]
    fields = refused(door, {"messages": items})["fields"]
    assert {"messages.1.to", "messages.2.colour", "messages.3.subject", "messages.4"} <= set(fields)
    body = post(door, {"messages": items, "mode": "partial"}).json()
    assert (body["accepted"], [one["index"] for one in body["errors"]]) == (1, [1, 2, 3, 4])


def test_a_file_that_may_not_be_sent_is_a_fault_of_its_message_alone(door):
    good = {"to": "a@example.com", "subject": "s", "text": "t"}
    items = [good, {**good, "attachments": [{"filename": "setup.exe", "content": "TVqQAAMAAAAEAAAA"}]}, good]
    assert "type .exe" in refused(door, {"messages": items})["fields"]["messages.1.attachments.0"][0]
    body = post(door, {"messages": items, "mode": "partial"}).json()
    assert (body["accepted"], [one["index"] for one in body["errors"]]) == (2, [1])


def test_a_batch_that_is_too_much_work_when_it_is_sent_is_not_accepted(door):
    recipients = [{"to": "ann@example.com", "variables": {"a": "x", "unused": "\u65e5" * 10_000}}]
    fields = refused(door, {"subject": "s", "text": "{{ a }}" * 4_500, "recipients": recipients})["fields"]
    assert "too much work" in fields["recipients.0.text"][0]


def test_one_idempotency_key_covers_the_whole_batch(door):
    key, body = str(uuid4()), COMMON | {"recipients": people(3)}
    first = post(door, body, **{"Idempotency-Key": key})
    again = post(door, body, **{"Idempotency-Key": key})
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    other = post(door, COMMON | {"recipients": people(2)}, **{"Idempotency-Key": key})
    assert other.status_code == 422


def test_batches_are_listed_newest_first_with_how_far_each_is(door):
    older, newer = (accepted(door, recipients=people(n))["batch_id"] for n in (2, 3))
    page = door.get("/batches", limit=2)
    assert [one["id"] for one in page["batches"]] == [newer, older]
    assert (page["batches"][0]["statuses"], page["batches"][0]["progress"]) == ({"PENDING": 3}, 0.0)
    assert page["batches"][0]["subject"] == "Order {{ order }}"
    assert page["count"] >= 2
    after = door.get("/batches", after=newer, limit=1)["batches"]
    assert [one["id"] for one in after] == [older]
    assert door.call("GET", f"/batches/{uuid4()}").status_code == 404


def test_the_messages_of_a_batch_are_listed_by_its_id_and_each_names_it(door):
    body, other = (accepted(door, recipients=people(n))["batch_id"] for n in (3, 2))
    door.send(to="ann@example.com")
    listed = door.get("/messages", batch_id=body)
    assert (listed["count"], len(listed["messages"])) == (3, 3)
    assert {door.get(f"/messages/{one['id']}")["batch_id"] for one in listed["messages"]} == {body}
    door.call("DELETE", f"/messages/{listed['messages'][0]['id']}")
    assert door.get("/messages", batch_id=body, status="CANCELLED")["count"] == 1
    assert door.get("/messages", batch_id=other)["count"] == 2
    assert door.get("/messages", batch_id=str(uuid4())) == {"messages": [], "count": 0}
    assert door.get(f"/messages/{door.send(to='ann@example.com')}")["batch_id"] is None


def test_a_cancelled_batch_keeps_its_messages_and_each_says_so(door):
    kept = accepted(door, recipients=people(2))
    body = accepted(door, recipients=people(3))
    door.call("DELETE", f"/messages/{body['ids'][0]}")
    answer = door.call("POST", f"/batches/{body['batch_id']}/cancel")
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert (shown["cancelled"], shown["statuses"], shown["progress"]) == (2, {"CANCELLED": 3}, 1.0)
    assert shown["cancelled_at"]
    again = door.call("POST", f"/batches/{body['batch_id']}/cancel").json()
    assert (again["cancelled"], again["cancelled_at"]) == (0, shown["cancelled_at"])
    kinds = [one["kind"] for one in door.get(f"/messages/{body['ids'][1]}/events")["events"]]
    assert kinds == ["cancelled", "accepted"]
    assert door.get(f"/batches/{kept['batch_id']}")["statuses"] == {"PENDING": 2}
    assert door.call("POST", f"/batches/{uuid4()}/cancel").status_code == 404


def test_a_thousand_recipients_are_one_batch_and_their_order_is_that_of_the_request(door):
    body = accepted(door, recipients=people(1000))
    assert (body["accepted"], len(set(body["ids"]))) == (1000, 1000)
    assert body["ids"] == sorted(body["ids"])
    for number in (0, 499, 999):
        assert door.get(f"/messages/{body['ids'][number]}")["to"] == [f"ann{number}@example.com"]
