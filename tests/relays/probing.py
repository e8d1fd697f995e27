"""A probe for tests."""

import json
from dataclasses import asdict

from mailbbgun.relays.probe import Probe, probe
from mailbbgun.smtp.endpoint import Endpoint, Timeouts
from mailbbgun.smtp.envelope import Envelope
from tests.smtp.peers import PATIENT
from tests.waiting import PATIENCE

MAIL = Envelope("from@client.test", ("to@peer.test",), b"Subject: test\r\n\r\nHello\r\n")
IN_CLEAR = ["resolve", "connect", "banner", "ehlo"]
UPGRADED = [*IN_CLEAR, "starttls", "tls", "ehlo"]
IMPLICIT = ["resolve", "connect", "tls", "banner", "ehlo"]
SENT = ["mail", "rcpt", "data", "dot"]
PASSWORD = "correct horse'9\u00e9+"


def tried(
    endpoint: Endpoint, mail: Envelope | None = None, timeouts: Timeouts = PATIENT, limit: float = PATIENCE
) -> Probe:
    told = probe(endpoint, "client.test", timeouts, mail, limit)
    assert told.ok is (told.verdict is None)
    assert all(step.milliseconds >= 0 for step in told.steps)
    json.dumps(asdict(told))  # all of it is plain data
    return told


def names(told: Probe) -> list[str]:
    return [step.name for step in told.steps]
