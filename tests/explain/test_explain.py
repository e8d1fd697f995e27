"""Messages are explained through the front door and the command line, by what really is."""

import json
from datetime import UTC, datetime, timedelta

from tests.flow.accounts import SETTINGS
from tests.flow.service import Service, until

HOUR = {"RETRY_DELAYS": "3600", "CIRCUIT_FAILURES": 1, "CIRCUIT_PAUSE_SECONDS": 1800}


def why(service, identifier):
    (found,) = service.get(f"/messages/{identifier}/explain")["deliveries"]
    return found


def test_the_ways_of_messages_are_explained(embedded_settings):
    with Service(embedded_settings, **SETTINGS | HOUR) as service:
        for name, port in (("broken", 1), ("works", service.sink_port)):
            account = {"setting_name": name, "smtp_host": "127.0.0.1", "smtp_port": port, "security_protocol": "NONE"}
            made = service.http.post(f"{service.url}/smtp-accounts", json=account | {"from_email": f"{name}.test"})
            assert made.status_code == 201, made.text
        paused = service.post(**{"from": "a@broken.test", "to": "x@example.test"})["id"]
        sent = service.post(**{"from": "a@works.test", "to": "x@example.test"})["id"]
        at = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        later = service.post(**{"from": "a@works.test", "to": "x@example.test", "send_at": at})["id"]
        assert [why(service, later)["code"], why(service, later)["also"][0]["code"]] == ["scheduled", "no_workers"]
        assert why(service, sent)["code"] == "no_workers"
        body = {"from": "a@works.test", "to": "x@example.test", "subject": "Hello", "text": "Hi"}
        dry = service.http.post(f"{service.url}/messages?dry_run=true", json=body).json()
        (recipient,) = dry["recipients"]
        assert (recipient["way"], recipient["account"]) == ("accounts", "works")
        assert "comes first by its priority" in recipient["why"]
        service.start_worker()
        service.ended(sent, "DELIVERED")
        assert why(service, sent)["code"] == "delivered"
        found = until(
            lambda: (one := why(service, paused))["code"] == "account_paused" and one, what="a paused account"
        )
        assert "Account broken is paused since" in found["text"]
        assert found["next_at"]
        assert [one["code"] for one in found["also"]] == ["waiting_for_retry"]
        told = json.loads(service.run("bin/mailbbgun", "message", "explain", paused, "--json"))
        assert told["deliveries"][0]["code"] == "account_paused"
        lines = service.run("bin/mailbbgun", "message", "explain", paused).splitlines()
        assert "Account broken is paused" in lines[1]
        assert lines[2].startswith("    Next try at")


def test_mail_that_nobody_sends_is_explained(door, tag):
    scheduled = door.send(to=f"a@{tag}.example", ttl=60)
    assert [one["code"] for one in door.get(f"/messages/{scheduled}/explain")["deliveries"]] == ["no_workers"]
    assert door.call("POST", "/suppressions", json={"address": f"b@{tag}.example"}).status_code == 200

    def explained():
        both = door.send(to=[f"a@{tag}.example", f"b@{tag}.example"])
        shown = door.get(f"/messages/{both}/explain")
        codes = {one["address"].partition("@")[0]: one["code"] for one in shown["deliveries"]}
        return (shown["status"], codes) == ("PENDING", {"a": "no_workers", "b": "suppressed"})

    # Accept may take a second to learn that a tenant has its first suppression; until then the worker sees to it.
    until(explained, what="a suppressed recipient")
    assert door.call("DELETE", f"/messages/{scheduled}").status_code == 200
    (found,) = door.get(f"/messages/{scheduled}/explain")["deliveries"]
    assert (found["code"], found["next_at"], found["also"]) == ("cancelled", None, [])
    missing = f"{tag[:8]}-0000-7000-8000-000000000000"
    assert door.call("GET", f"/messages/{missing}/explain").status_code == 404
