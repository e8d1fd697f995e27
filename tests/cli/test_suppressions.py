"""``bin/mailbbgun suppression`` and ``message reschedule``, on each database."""

from datetime import UTC, datetime, timedelta

from tests.cli.test_messages import Installation, context

__all__ = ["context"]  # a fixture


def test_recipients_are_suppressed_listed_and_removed(context: Installation) -> None:
    run = context.shell.run
    waiting = context.send(to=["ann@gone.example", "ben@example.com"])
    done = run("suppression", "add", "Ann@gone.example", "@left.example", "--reason", "gone")
    assert done.stdout == "2 added, 0 changed; 1 waiting deliveries stopped\n"
    listed = context.shell.json("suppression", "list", "--reason", "gone")
    assert {(one["address"], one["domain"]) for one in listed["suppressions"]} == {
        ("ann@gone.example", None),
        (None, "left.example"),
    }
    assert "ann@gone.example" in run("suppression", "list", "--address", "ANN@gone.example").stdout
    assert context.shell.json("message", "show", waiting)["reason"] == "suppressed"
    assert context.shell.json("suppression", "list", "--test") == {"suppressions": [], "count": 0}
    assert run("suppression", "remove", "ann@gone.example", "left.example").stdout == "2 removed\n"
    again = run("suppression", "remove", "left.example", code=1)
    assert "left.example is not on the list" in again.stderr


def test_a_wrong_recipient_is_refused_and_nothing_is_stored(context: Installation) -> None:
    done = context.shell.run("suppression", "add", "new@example.com", "a b@example.com", code=2)
    assert "before the @-sign" in done.stderr
    assert context.shell.json("suppression", "list", "--address", "new@example.com")["count"] == 0
    done = context.shell.run("suppression", "add", "ann@example.com", "--expires-at", "2001-01-01", code=2)
    assert "Has passed" in done.stderr


def test_a_csv_goes_in_and_comes_out(context: Installation, tmp_path) -> None:
    file = tmp_path / "list.csv"
    file.write_text("email,reason\ncsv@example.com,complained\nnobody,typo\n")
    done = context.shell.run("suppression", "import", str(file))
    assert done.stdout.startswith("1 added, 0 changed")
    assert "line 3: address: " in done.stderr
    exported = context.shell.run("suppression", "export").stdout
    assert exported.splitlines()[0] == "address,domain,reason,expires_at,created_at"
    file.write_text(exported)
    assert context.shell.run("suppression", "import", str(file)).stdout.startswith("0 added, 1 changed")
    file.write_text("who\n1\n")
    assert "csv: " in context.shell.run("suppression", "import", str(file), code=2).stderr


def test_a_message_is_rescheduled(context: Installation) -> None:
    identifier = context.send(send_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
    later = (datetime.now(UTC) + timedelta(hours=2)).replace(microsecond=0)
    shown = context.shell.json("message", "reschedule", identifier, "--send-at", later.isoformat(), "--ttl", "60")
    assert datetime.fromisoformat(shown["send_at"]) == later
    assert datetime.fromisoformat(shown["useful_until"]) == later + timedelta(seconds=60)
    done = context.shell.run("message", "reschedule", identifier, "--send-at", "now", "--useful-until", "none")
    assert "send_at       -" in done.stdout
    assert context.shell.json("message", "show", identifier)["useful_until"] is None
    assert "Nothing is to be changed" in context.shell.run("message", "reschedule", identifier, code=2).stderr
    assert "RFC 3339" in context.shell.run("message", "reschedule", identifier, "--send-at", "soon", code=2).stderr
