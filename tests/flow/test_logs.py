"""Logs of a whole run, trouble included: JSON lines that tell no secret and no mail."""

import json

from sqlalchemy.engine import make_url

from mailbbgun.settings.load import load
from tests.flow.service import Service, until

CANARIES = {name: f"canary-{name}-7f3a" for name in ("body", "html", "smtp", "database")}


def test_log_lines_are_json_and_have_no_body_and_no_password(tmp_path, breakable_postgresql):
    name = breakable_postgresql.create_database()
    database = make_url(breakable_postgresql.url(name)).set(password=CANARIES["database"])
    url = f"smtp://robot:{CANARIES['smtp']}@127.0.0.1:%d?security=%s"
    given = {
        "VAR": tmp_path / "var",
        "DATABASE_URL": database.render_as_string(hide_password=False),
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "DEBUG",
    }
    service = Service(load({f"MAILBBGUN_{name}": str(value) for name, value in given.items()}), SWEEP_SECONDS=1)
    service.environment["MAILBBGUN_SMTP_URL"] = url % (service.sink_port, "none")
    with service:
        service.start_worker()
        body = {"text": CANARIES["body"], "html": f"<p>{CANARIES['html']}</p>"}
        sent = [
            service.post(to=f"{name}@example.test", **body)["id"]
            for name in ("ann", "never-ann", "lost-ann", "later-1-ann")
        ]
        # The sink offers no AUTH and we are told to use it: refused, so nothing has left yet.
        until(lambda: service.events("refused"), what="a refusal")
        service.stop("worker")
        service.environment["MAILBBGUN_SMTP_URL"] = url.replace("robot:", "").replace(f"{CANARIES['smtp']}@", "") % (
            service.sink_port,
            "none",
        )
        service.start_worker()
        service.sql("UPDATE deliveries SET next_attempt_at = statement_timestamp()")
        until(lambda: service.count("PENDING") == 0)
        breakable_postgresql.stop()
        assert (
            service.http.post(
                f"{service.url}/messages", json={"to": "cis@example.test", "subject": "x"} | body
            ).status_code
            == 503
        )
        until(lambda: "results cannot" in (out := (service.var / "worker.out").read_text()) or "does not answer" in out)
        breakable_postgresql.start()
        service.post(to="ben@example.test", **body)
        until(lambda: service.count("PENDING") == 0)
        service.stop("worker")
        for path in (service.var / "api.out", service.var / "worker.out"):
            lines = path.read_text().splitlines()
            events = [json.loads(line) for line in lines]
            assert all({"time", "level", "event"} <= set(event) for event in events)
            assert [event for event in events if event["level"] == "warning"]
            assert not [line for line in lines for canary in CANARIES.values() if canary in line]
            told = {event.get("message_id") for event in events}
            assert set(sent) <= told
    breakable_postgresql.drop_database(name)
