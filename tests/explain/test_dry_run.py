"""A dry run shows what would become of a message, and leaves nothing behind."""

import base64

from tests.http.posting import GOOD, wrong

FILE = {"filename": "a.txt", "content": base64.b64encode(b"Total: 12 EUR\n").decode()}


def dry(door, body, **query):
    key = {"Idempotency-Key": "a dry run's"}
    return door.call("POST", "/messages", json=body, params={"dry_run": "true"} | query, headers=key)


def test_a_dry_run_shows_the_mail_and_stores_nothing(door, tag):
    body = GOOD | {"to": [f"a@{tag}.example", f"B <b@{tag}.example>"], "html": "<p>Hé</p>", "tags": [tag]}
    assert door.call("POST", "/suppressions", json={"address": f"b@{tag}.example"}).status_code == 200
    answer = dry(door, body | {"attachments": [FILE], "track_opens": False})
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert shown["subject"] == "Hello"
    assert f"To: a@{tag}.example, B\r\n <b@{tag}.example>" in shown["mime"]
    assert "(14 bytes, SHA-256 " in shown["mime"]
    assert shown["mime_is_cut"] is False
    assert [(one["address"][0], one["suppressed"], one["way"]) for one in shown["recipients"]] == [
        ("a", False, "catcher"),
        ("b", True, "catcher"),
    ]
    judged = shown["authentication"]
    assert (judged["dkim"]["signatures"], judged["dmarc"]["passes"], judged["spf"]["aligned"]) == ([], None, True)
    assert door.get("/messages", tag=tag)["count"] == 0
    assert "Location" not in answer.headers
    # The key was not used: a real request with it, and another body, is the first one.
    real = door.post(GOOD | {"tags": [tag]}, **{"Idempotency-Key": "a dry run's"})
    assert (real.status_code, "Idempotent-Replayed" in real.headers) == (201, False)
    plain = dry(door, GOOD | {"text": "x" * 100_000}).json()
    assert (plain["mime_is_cut"], len(plain["mime"])) == (True, 65_536)


def test_a_dry_run_refuses_what_a_real_request_would(door):
    wrong(dry(door, GOOD | {"to": "nobody"}), "to")
    wrong(dry(door, GOOD | {"individual": True}), "individual")
    refused = dry(door, GOOD | {"attachments": [FILE | {"filename": "a.exe"}]})
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "file_refused")
    missing = dry(door, GOOD | {"attachments": [{"sha256": "0" * 64, "filename": "a.txt"}]})
    wrong(missing, "attachments.0.sha256")
    wrong(dry(door, GOOD, dry_run="maybe"), "dry_run")
    wrong(dry(door, GOOD, dryrun="true"), "dryrun")
