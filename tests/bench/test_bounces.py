"""How well reports are understood, on a folder with each kind of labels."""

import json

import pytest
from click.testing import CliRunner

from bench.bounces import main
from tests.bounces.letters import dsn, notice

ANN = {"recipient": "ann@example.net", "hardbounce": True, "reason": "userunknown"}
LABELS = {
    "sisimai/labels.json": {
        "a.eml": {"rb": [ANN]},
        "b.eml": {"rb": [{**ANN, "hardbounce": False, "reason": "filtered"}]},
        "c.eml": {"rb": [{**ANN, "recipient": "ben@example.net"}]},
        "d.eml": {"rb": [{**ANN, "reason": "vacation"}]},
        "e.eml": {"rb": [{**ANN, "recipient": "x@libsisimai.org.invalid"}]},
        "f.eml": {"rb": [{**ANN, "recipient": "info@example.net"}]},
    },
    "flufl/labels.json": {"a.eml": {"permanent": ["ann@example.net"], "temporary": []}},
    "bounce_oracles.json": {
        "sisimai/mail/a.eml": {"majority_recipients": ["ben@example.net"]},
        "sisimai/mail/b.eml": {"majority_recipients": None},
    },
    "smtp_replies.json": [{**ANN, "text": "550 5.1.1 user unknown", "replycode": "550", "status": "5.1.1"}],
}


@pytest.fixture
def folder(tmp_path):
    for place in ("sisimai/mail", "flufl", "ordinary"):
        (tmp_path / place).mkdir(parents=True)
    for name, labels in LABELS.items():
        (tmp_path / name).write_text(json.dumps(labels))
    mails = dict.fromkeys(("a", "b", "c", "e"), dsn()) | {
        "d": notice("I am away.", "Out of office", "ann@example.net"),
        "f": notice("<ann@example.net> (expanded from <info@example.net>): user unknown"),
    }
    for name, raw in mails.items():
        (tmp_path / f"sisimai/mail/{name}.eml").write_bytes(raw)
    (tmp_path / "flufl/a.eml").write_bytes(dsn())
    (tmp_path / "ordinary/a.eml").write_bytes(notice("Hello", "Lunch", "ann@example.net"))
    (tmp_path / "ordinary/b.eml").write_bytes(dsn())
    return tmp_path


def test_each_kind_of_labels_is_compared(folder):
    ordinary = folder / "ordinary"
    done = CliRunner().invoke(main, [str(folder), "--ordinary", str(ordinary), "--misses"], catch_exceptions=False)
    assert done.exit_code == 0
    told = [line for line in done.output.splitlines() if not line.startswith("  ")]
    assert told[:-1] == [
        "bounce_oracles.json: recipients 0/1",
        "flufl/labels.json: recipients 1/1",
        "sisimai/labels.json: recipients 3/4, hard 1/2, hard* 1/1, auto-replies 1/1",
        "smtp_replies.json: hard 1/1, hard* 1/1",
        f"{ordinary}: left alone 1/2",
    ]
    assert "  recipients: c.eml ['ann@example.net'], not ['ben@example.net']" in done.output
    assert "  left alone: b.eml failure ['ann@example.net']" in done.output
