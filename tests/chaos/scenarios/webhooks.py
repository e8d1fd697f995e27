"""Damage while events go to a webhook."""

import requests

from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.events.reading import START, read
from mailbbgun.services import build
from mailbbgun.settings.load import load
from tests.chaos.round import EMBEDDED, REAL, Round
from tests.chaos.scenarios.batches import EACH
from tests.chaos.scenarios.table import scenario
from tests.flow.service import Service, until
from tests.waiting import PATIENCE
from tests.webhooks.manual import ManualsReceiver

#: How often receiver and worker are killed.
KILLS = 3


@scenario(EMBEDDED, REAL)
def webhooks(round_: Round) -> None:
    """kill -9 of a webhook's receiver and of the worker, three times each: it gets each event once, by its id."""
    number = round_.messages or 1000
    with round_.service(ALLOW_PRIVATE_HOSTS="127.0.0.0/8", LEASE_SECONDS=4) as service, service:
        service.start_worker()
        receiver = ManualsReceiver(service.var)
        made = service.http.post(f"{service.url}/webhooks", json={"url": receiver.url}, timeout=PATIENCE)
        assert made.status_code == 201, made.text
        receiver.secret, path = made.json()["secret"], f"{service.url}/webhooks/{made.json()['id']}"
        try:
            receiver.start()
            for turn in range(2 * KILLS):
                _post(service, turn, number // (2 * KILLS))
                round_.pause(0.1, 0.8)
                if turn % 2:
                    service.kill("worker")
                    service.start_worker()
                else:
                    receiver.kill()
                    receiver.start()
            round_.settle(service)
            requests.patch(path, json={"description": "mended"}, timeout=PATIENCE).raise_for_status()
            until(lambda: set(receiver.ids().values()) == _logged(service), what="every event at the receiver")
            found = receiver.ids()
            assert len(found) == len(set(found.values()))  # one id for each event
            round_.say(len(found), "events")
        finally:
            receiver.kill()


def _post(service: Service, turn: int, number: int) -> None:
    """Send half of the mail one by one, and half in batches, whose messages have one row in the log."""
    for one in range(number // 2):
        service.post(to=f"t{turn}-{one}@example.test", subject="n", text="x")
    personal = [{"to": f"b{turn}-{one}@example.test"} for one in range(number - number // 2)]
    for first in range(0, len(personal), EACH):
        people = personal[first : first + EACH]
        body = {"subject": "n", "text": "x", "recipients": people}
        answer = service.http.post(f"{service.url}/messages/batch", json=body, timeout=PATIENCE)
        assert answer.status_code == 202, answer.text


def _logged(service: Service) -> set[str]:
    """Return the ids of all events."""
    services = build(load(service.environment))
    found: set[str] = set()
    place = START
    with services.db.read() as session:
        while events := read(session, DEFAULT_TENANT, place, 1000):
            found |= {str(one.id) for one in events}
            place = events[-1].position
    services.close()
    return found
