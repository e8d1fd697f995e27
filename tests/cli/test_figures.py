"""``bin/mailbbgun statistics`` and ``export``, on each database."""

import csv
import json
from io import StringIO

from tests.cli.test_messages import Installation, context

__all__ = ["context"]  # a fixture


def test_the_log_is_counted_shown_and_exported(context: Installation) -> None:
    shell, tags = context.shell, ["figures of the command line"]
    sent = [context.send(to=["ann@one.example", "ben@two.example"], tags=tags, subject=one) for one in ("=1", "two")]
    assert shell.run("statistics", "rebuild").stdout == "counted again from the beginning on\n"
    found = shell.json("statistics", "show", "--days", "2", "--tag", tags[0])
    assert (found["total"]["messages"], found["total"]["accepted"]) == (2, 4)
    by_domain = shell.run("statistics", "show", "--group-by", "domain").stdout
    assert "one.example" in by_domain
    assert "time_to_deliver_p95" in by_domain
    wrong = shell.run("statistics", "show", "--days", "90", "--interval", "minute", code=2)
    assert "at most 5000 are answered" in wrong.stderr

    table = shell.run("export", "messages", "--tag", tags[0], "--format", "csv").stdout
    rows = list(csv.DictReader(StringIO(table, newline="")))
    assert [(row["id"], row["subject"]) for row in rows] == [(sent[1], "two"), (sent[0], "'=1")]
    lines = shell.run("export", "events", "--kind", "accepted,bounced", "--tag", tags[0]).stdout
    assert [json.loads(line)["message_id"] for line in lines.splitlines()] == sent
    figures = shell.run("export", "statistics", "--days", "2", "--group-by", "tag").stdout.splitlines()
    assert sum(json.loads(line)["accepted"] for line in figures if tags[0] in line) == 4
