"""Damage while batches leave: every mail has values of its own."""

import hashlib
from uuid import UUID

from mailbbgun.messages.loading import Contents
from mailbbgun.services import build
from mailbbgun.settings.load import load
from tests.chaos.check import check
from tests.chaos.round import EMBEDDED, REAL, Round
from tests.chaos.scenarios.table import scenario
from tests.flow.service import Service
from tests.waiting import PATIENCE

#: Mails of a batch.
EACH = 100


@scenario(EMBEDDED, REAL)
def batches(round_: Round) -> None:
    """kill -9 of the worker, twice, while batches leave: each mail comes once, with its own values."""
    number = max(2, (round_.messages or 1000) // EACH)
    with round_.service() as service, service:
        service.start_worker()
        accepted: dict[str, str] = {}
        for batch in range(number):
            accepted |= _post(service, batch)
            if batch in (number // 3, 2 * number // 3):
                round_.pause(0.1, 0.5)
                service.kill("worker")
                service.start_worker()
        round_.settle(service)
        round_.figures = check(service, accepted)
        _check_values(service, accepted)


def _post(service: Service, batch: int) -> dict[str, str]:
    """Send a batch; return the id of each mail by its recipient."""
    people = [f"b{batch}-{number}@example.test" for number in range(EACH)]
    body = {
        "subject": "For {{ who }}",
        "text": "Your code is {{ code }}.",
        "html": "<p>{{ code }}</p>",
        "recipients": [{"to": one, "variables": {"who": one, "code": f"code of {one}"}} for one in people],
    }
    answer = service.http.post(f"{service.url}/messages/batch", json=body, timeout=PATIENCE)
    assert answer.status_code == 202, answer.text
    return dict(zip(people, answer.json()["ids"], strict=True))


def _check_values(service: Service, accepted: dict[str, str]) -> None:
    """Check that what the sink took has the values of its recipient, byte for byte."""
    services = build(load(service.environment))
    ids = {address: UUID(identifier) for address, identifier in accepted.items()}
    wanted, contents = [*ids.values()], Contents(services.db)
    pieces = [contents.messages(wanted[at : at + EACH]) for at in range(0, len(wanted), EACH)]
    services.close()
    stored = {one: message for piece in pieces for one, message in piece.items()}
    whole = {address: stored[one].composed().whole for address, one in ids.items()}
    assert all(f"code of {address}".encode() in mime for address, mime in whole.items())
    for message in service.taken():
        (address,) = message["to"]
        assert message["sha"] == hashlib.sha256(whole[address]).hexdigest(), address
