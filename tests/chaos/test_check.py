"""The checker finds every kind of fault: each is made by hand, after a round without faults."""

import json

import pytest

from tests.chaos.check import Wrong, check
from tests.chaos.load import Load, addresses
from tests.flow.service import Service, until


def test_it_sees_what_is_lost_doubled_changed_foreign_and_untrue(embedded_settings):
    with Service(embedded_settings, RETRY_DELAYS="1") as service:
        load = Load(service)
        load.send_all([*addresses("u", 3), "never-ann@example.test", "lost-ben@example.test"])
        service.start_worker()
        until(lambda: service.count("PENDING") == 0, what="the end of every delivery")
        figures = check(service, load.accepted)
        assert (figures.accepted, figures.unknown, figures.copies) == (5, 1, 1)
        right = service.log.read_text()
        lines = {line["to"][0]: line for line in service.taken()}
        one = lines["u0@example.test"]

        def refused(why: str, *more: dict[str, object], without: str = "nobody") -> None:
            kept = [line for line in right.splitlines() if without not in line]
            service.log.write_text("".join(f"{line}\n" for line in [*kept, *map(json.dumps, more)]))
            with pytest.raises(Wrong, match=why):
                check(service, load.accepted)
            service.log.write_text(right)

        refused("; lost", without="u0@")
        refused("twice, not marked", one)
        refused("twice, not marked", lines["lost-ben@example.test"])  # a third copy, but one mark
        refused("copies that differ", {**lines["lost-ben@example.test"], "sha": "other"})
        refused("nobody was told of", {**one, "to": ["zoe@example.test"]})
        refused(
            "untrue", {**one, "id": f"<{load.accepted['never-ann@example.test']}@x>", "to": ["never-ann@example.test"]}
        )
        with pytest.raises(Wrong, match="nobody was told of"):  # stored twice, answered once
            check(
                service,
                {address: identifier for address, identifier in load.accepted.items() if address != "u0@example.test"},
            )
        with pytest.raises(Wrong, match="not in the database"):
            check(service, load.accepted | {"zoe@example.test": load.accepted["u0@example.test"]})
        service.environment["MAILBBGUN_ON_UNKNOWN"] = "hold"
        refused("twice, not marked")  # with hold no mark excuses a copy
        service.environment["MAILBBGUN_ON_UNKNOWN"] = "retry"
        service.sql(
            "UPDATE messages SET status = 'ERROR' WHERE id = :id", id=load.accepted["u1@example.test"].replace("-", "")
        )
        refused("not the sum")
        service.sql("UPDATE deliveries SET status = 'ERROR', reason = 'expired' WHERE address = 'u1@example.test'")
        refused("untrue.*u1@")
        # The sink would have taken it, so it cannot have bounced, whatever the service says.
        service.sql("UPDATE deliveries SET status = 'ERROR', reason = 'bounced' WHERE address = 'u2@example.test'")
        its = "SELECT id FROM deliveries WHERE address = 'u2@example.test'"
        service.sql(f"DELETE FROM events WHERE kind = 'delivered' AND delivery_id = ({its})")
        refused(r"untrue.*u2@", without="u2@")
