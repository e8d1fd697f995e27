"""The checker finds every kind of fault: each is made by hand, after a round without faults."""

import json
from collections.abc import Iterator

import pytest

from mailbbgun.settings.settings import Settings
from tests.chaos.check import Wrong, check
from tests.chaos.load import Load, addresses
from tests.flow.service import Service, until


class Tampered:
    """A round without faults, whose sink log and rows a test may change before it checks again."""

    def __init__(self, service: Service, load: Load) -> None:
        self.service, self.accepted = service, load.accepted
        self._right = service.log.read_text()
        self.lines = {line["to"][0]: line for line in service.taken()}

    def refused(self, why: str, *more: dict[str, object], without: str = "nobody") -> None:
        """Add ``more`` to the sink's log, leave out lines with ``without``; the checker must say ``why``."""
        kept = [line for line in self._right.splitlines() if without not in line]
        self.service.log.write_text("".join(f"{line}\n" for line in [*kept, *map(json.dumps, more)]))
        with pytest.raises(Wrong, match=why):
            check(self.service, self.accepted)
        self.service.log.write_text(self._right)


@pytest.fixture
def tampered(embedded_settings: Settings) -> Iterator[Tampered]:
    """A round of five messages, one of which came twice, with a mark."""
    with Service(embedded_settings, RETRY_DELAYS="1") as service:
        load = Load(service)
        load.send_all([*addresses("u", 3), "never-ann@example.test", "lost-ben@example.test"])
        service.start_worker()
        until(lambda: service.count("PENDING") == 0, what="the end of every delivery")
        figures = check(service, load.accepted)
        assert (figures.accepted, figures.unknown, figures.copies) == (5, 1, 1)
        yield Tampered(service, load)


def test_it_sees_what_is_lost_doubled_changed_foreign_and_untrue(tampered):
    service, accepted, refused = tampered.service, tampered.accepted, tampered.refused
    one, twice = tampered.lines["u0@example.test"], tampered.lines["lost-ben@example.test"]
    refused("; lost", without="u0@")
    refused("twice, not marked", one)
    refused("twice, not marked", twice)  # a third copy, but one mark
    refused("copies that differ", {**twice, "sha": "other"})
    refused("nobody was told of", {**one, "to": ["zoe@example.test"]})
    refused("untrue", {**one, "id": f"<{accepted['never-ann@example.test']}@x>", "to": ["never-ann@example.test"]})
    with pytest.raises(Wrong, match="nobody was told of"):  # stored twice, answered once
        check(service, {address: one for address, one in accepted.items() if address != "u0@example.test"})
    with pytest.raises(Wrong, match="not in the database"):
        check(service, accepted | {"zoe@example.test": accepted["u0@example.test"]})
    service.environment["MAILBBGUN_ON_UNKNOWN"] = "hold"
    refused("twice, not marked")  # with hold no mark excuses a copy


def test_it_sees_statuses_that_are_not_true(tampered):
    service, refused = tampered.service, tampered.refused
    one = tampered.accepted["u1@example.test"].replace("-", "")
    service.sql("UPDATE messages SET status = 'ERROR' WHERE id = :id", id=one)
    refused("not the sum")
    service.sql("UPDATE deliveries SET status = 'ERROR', reason = 'expired' WHERE address = 'u1@example.test'")
    refused("untrue.*u1@")
    # The sink would have taken it, so it cannot have bounced, whatever the service says.
    service.sql("UPDATE deliveries SET status = 'ERROR', reason = 'bounced' WHERE address = 'u2@example.test'")
    its = "SELECT id FROM deliveries WHERE address = 'u2@example.test'"
    service.sql(f"DELETE FROM events WHERE kind = 'delivered' AND delivery_id = ({its})")
    refused(r"untrue.*u2@", without="u2@")
