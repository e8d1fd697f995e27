"""Mail is posted to an application, signed, until it is taken: real servers, on each database."""

import base64
import hashlib
import hmac
import json
import threading
from email import message_from_bytes
from email.policy import HTTP
from urllib.parse import parse_qs
from uuid import uuid4

import pytest
from standardwebhooks.webhooks import Webhook

from tests.flow.service import until
from tests.waiting import PATIENCE

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
FILE = (
    b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n'
    b"--b\r\nContent-Type: text/plain\r\n\r\nSee the file.\r\n> quoted\r\n-- \r\nZoe\r\n"
    b"--b\r\nContent-Type: application/pdf; name=a.pdf\r\nContent-ID: <f1>\r\n"
    b"Content-Disposition: attachment; filename=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nAAECAw==\r\n--b--\r\n"
)


def test_a_mail_is_posted_as_json_that_the_receiver_can_verify(service, receiver):
    domain = service.domain("json.test", "info")
    made = service.route({"post": {"url": receiver.url("json")}}, match={"recipient": f"*@{domain}"}, secret=SECRET)
    assert made["secret"] == SECRET
    sent = service.receive(f"info@{domain}", header=FILE)
    posted = service.ends(sent, "DELIVERED")[f"inbound-route:{made['id']}"]
    assert (posted["kind"], posted["last_reply"]) == ("web", "250 HTTP 200")
    [request] = receiver.got("json")
    assert Webhook(SECRET).verify(request.body, dict(request.headers)) == json.loads(request.body)
    body = json.loads(request.body)
    data = body["data"]
    assert (body["type"], data["recipient"], data["sender"]) == ("mail.received", f"info@{domain}", "zoe@far.test")
    assert (data["from"], data["subject"]) == ("Zoë <zoe@far.test>", "café")
    assert data["message_id"] == f"<info.{domain}@far.test>"
    assert data["text"].startswith("See the file.")
    [file] = data["attachments"]
    assert (file["filename"], base64.b64decode(file["content"])) == ("a.pdf", b"\0\1\2\3")
    assert request.headers["webhook-id"] == data["id"] == f"mail_{posted['id'].replace('-', '')}"
    assert len(service.mailed(f"info@{domain}")) == 1


def test_a_mail_with_a_file_is_posted_as_mailgun_does(service, receiver):
    domain = service.domain("gun.test")
    made = service.route({"post": {"url": receiver.url("gun"), "form": "mailgun"}}, match={"recipient": f"*@{domain}"})
    service.ends(service.receive(f"info@{domain}", header=FILE), "DELIVERED")
    [request] = receiver.got("gun")
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    parts = {
        one.get_param("name", header="content-disposition"): one
        for one in message_from_bytes(head + request.body, policy=HTTP).iter_parts()
    }
    field = {name: one.get_payload(decode=True).decode(errors="replace") for name, one in parts.items()}
    assert (field["recipient"], field["sender"], field["subject"]) == (f"info@{domain}", "zoe@far.test", "café")
    assert (field["stripped-text"], field["stripped-signature"]) == ("See the file.", "Zoe")
    assert field["Message-Id"] == f"<info.{domain}@far.test>"
    assert ["Subject", "café"] in json.loads(field["message-headers"])
    assert (field["attachment-count"], json.loads(field["content-id-map"])) == ("1", {"<f1>": "attachment-1"})
    assert (parts["attachment-1"].get_filename(), parts["attachment-1"].get_content_type()) == (
        "a.pdf",
        "application/pdf",
    )
    assert parts["attachment-1"].get_payload(decode=True) == b"\0\1\2\3"
    signed = hmac.new(made["secret"].encode(), (field["timestamp"] + field["token"]).encode(), hashlib.sha256)
    assert field["signature"] == signed.hexdigest()
    assert len(field["token"]) == 50


def test_a_mail_without_files_is_a_simple_form(service, receiver):
    domain = service.domain("simple.test")
    service.route({"post": {"url": receiver.url("simple"), "form": "mailgun"}}, match={"recipient": f"*@{domain}"})
    service.ends(service.receive(f"info@{domain}", f"help@{domain}"), "DELIVERED")
    requests = receiver.got("simple")  # one for each recipient
    fields = [parse_qs(one.body.decode(), keep_blank_values=True) for one in requests]
    assert sorted(one["recipient"][0] for one in fields) == [f"help@{domain}", f"info@{domain}"]
    assert {one["body-plain"][0] for one in fields} == {"hi\n"}
    assert {one.headers["content-type"] for one in requests} == {"application/x-www-form-urlencoded"}


def test_html_is_posted_as_it_is_and_without_what_is_quoted(service, receiver):
    domain = service.domain("html.test")
    service.route({"post": {"url": receiver.url("html"), "form": "mailgun"}}, match={"recipient": f"*@{domain}"})
    html = b'<p>It is <b>caf\xc3\xa9</b>.</p><blockquote type="cite">Old.</blockquote>'
    mail = b"Content-Type: text/html; charset=utf-8\r\n\r\n" + html + b"\r\n<!--"
    service.ends(service.receive(f"info@{domain}", header=mail), "DELIVERED")
    [request] = receiver.got("html")
    fields = {name: values[0] for name, values in parse_qs(request.body.decode(), keep_blank_values=True).items()}
    assert fields["body-html"].startswith(html.decode())
    assert fields["stripped-html"].startswith("<p>It is <b>café</b>.</p>\n<!--")
    assert fields["body-plain"].split() == ["It", "is", "café.", "Old."]
    assert fields["stripped-signature"] == ""


OUTLOOK = b"""MIME-Version: 1.0\r
Content-Type: multipart/alternative; boundary=b\r
\r
--b\r
Content-Type: text/plain\r
\r
Mine.\r
________________________________\r
From: Ann <ann@far.test>\r
Subject: plans\r
\r
Below.\r
--b\r
Content-Type: text/html\r
\r
<p>Mine.</p><hr><div id="divRplyFwdMsg"><b>From:</b> Ann</div><p>Below.</p>\r
--b--\r
"""


@pytest.mark.parametrize(
    ("subject", "header", "stays"),
    [
        (b"Re: plans", b"In-Reply-To: <a@far.test>\r\n", False),
        (b"plans", b"References: <a@far.test>\r\n", False),
        (b"FW: plans", b"In-Reply-To: <a@far.test>\r\n", True),
        (b"WG: plans", b"References: <a@far.test>\r\n", True),
        (b"plans", b"", True),
    ],
)
def test_what_lies_below_the_mark_of_outlook_is_posted_if_it_is_forwarded(service, receiver, subject, header, stays):
    path = uuid4().hex
    domain = service.domain(f"{path}.test")
    match = {"recipient": f"*@{domain}"}
    service.route({"post": {"url": receiver.url(path), "form": "mailgun"}}, match=match)
    service.ends(service.receive(f"info@{domain}", subject=subject, header=header + OUTLOOK), "DELIVERED")
    [request] = receiver.got(path)
    fields = {name: values[0] for name, values in parse_qs(request.body.decode(), keep_blank_values=True).items()}
    for name in ("stripped-text", "stripped-html"):
        assert ("Mine." in fields[name], "Ann" in fields[name], "Below." in fields[name]) == (True, stays, stays)


def test_a_post_is_tried_again_after_a_failure_and_never_after_406(service, receiver):
    domain = service.domain("again.test")
    receiver.answers = lambda path, before: 406 if path == "/never" else 500 if before == 0 else 200
    for name in ("again", "never"):
        service.route({"post": {"url": receiver.url(name)}}, match={"recipient": f"{name}@{domain}"})
    again, never = service.receive(f"again@{domain}"), service.receive(f"never@{domain}")
    assert "received" in service.kinds(again)
    service.ends(again, "DELIVERED")
    refused = service.ends(never, "ERROR")
    assert [one.status for one in receiver.got("again")] == [500, 200]
    assert len({one.headers["webhook-id"] for one in receiver.got("again")}) == 1
    assert [one.status for one in receiver.got("never")] == [406]
    assert {its["reason"] for its in refused.values()} == {None, "bounced"}
    assert sorted(service.kinds(again)) == ["deferred", "delivered", "delivered", "received"]


def test_mail_that_waits_is_posted_where_its_route_posts_then_and_ends_with_it(service, receiver):
    domain = service.domain("moved.test")
    receiver.answers = lambda path, _: 503 if path == "/old" else 200
    routes = [
        service.route({"post": {"url": receiver.url("old")}}, match={"recipient": f"{name}@{domain}"}) for name in "ab"
    ]
    moved, deleted = (service.receive(f"{name}@{domain}") for name in "ab")
    until(lambda: len({one.headers["webhook-id"] for one in receiver.got("old")}) == 2)  # both, not one of them twice
    url = f"{service.url}/inbound-routes"
    new = {"actions": [{"post": {"url": receiver.url("new")}}]}
    assert service.http.patch(f"{url}/{routes[0]['id']}", json=new).status_code == 200
    assert service.http.delete(f"{url}/{routes[1]['id']}").status_code == 204
    service.ends(moved, "DELIVERED")
    assert len(receiver.got("new")) == 1
    its = service.ends(deleted, "ERROR")[f"inbound-route:{routes[1]['id']}"]
    assert "deleted" in its["last_reply"]


def test_applications_that_hang_hold_up_no_other_mail(service, receiver):
    domain, let_go = service.domain("hang.test"), threading.Event()
    receiver.answers = lambda _path, _before: let_go.wait(PATIENCE) and 200
    names = [f"r{number}@{domain}" for number in range(12)]  # two posts for each: more than there are connections
    for one in names:
        service.route({"post": {"url": receiver.url("hang")}}, match={"recipient": one})
    sent = [service.receive(*names, name=name) for name in ("hang.1", "hang.2")]
    for one in sent:
        until(lambda one=one: _posts(service, one, len(names)))
    other = service.post(to="free@else.test")["id"]
    service.ends(other, "DELIVERED")
    posts = [one for message in sent for one in _posts(service, message, len(names))]
    assert {(one["status"], one["attempts"]) for one in posts} == {("PENDING", 0)}
    let_go.set()
    for one in sent:
        service.ends(one, "DELIVERED")


def _posts(service, identifier, count):
    """Return the posts of a message, once there are so many."""
    found = [one for one in service.message(identifier)["deliveries"] if one["kind"] == "web"]
    return found if len(found) == count else []


def test_what_waits_to_be_posted_is_explained(service, receiver):
    domain = service.domain("why.test")
    receiver.answers = lambda _path, _before: 500
    route = service.route({"post": {"url": receiver.url("why")}}, match={"recipient": f"*@{domain}"})
    sent = service.receive(f"info@{domain}")
    until(lambda: receiver.got("why"))
    told = until(
        lambda: [
            one
            for one in service.get(f"/messages/{sent}/explain")["deliveries"]
            if one["address"] == f"inbound-route:{route['id']}" and "HTTP 500" in one["text"]
        ]
    )
    assert len(told) == 1
    service.http.delete(f"{service.url}/inbound-routes/{route['id']}")
    service.ends(sent, "ERROR")
