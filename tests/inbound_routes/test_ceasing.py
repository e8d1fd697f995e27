"""A domain may cease to be local while a mail is delivered to it: then the mail finds another way, and is no bounce."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, text

from mailbbgun.core.caller import Scope
from mailbbgun.deliver.context import local_relay
from mailbbgun.domains.local import SETTLING_SECONDS
from mailbbgun.relays.local import HOMELESS
from mailbbgun.return_paths.paths import ReturnPaths
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import Delivered
from tests.tenants.conftest import Locked, opened
from tests.waiting import pause


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Locked]:
    with opened(tmp_path, 1) as made:
        yield made


def cease(door: Locked) -> None:
    with door.services.db.engine.begin() as connection:
        connection.execute(text("UPDATE domains SET local = false"))
    pause(SETTLING_SECONDS)  # what is known of domains grows old


def after(door: Locked, table: str, do: Callable[[], None]) -> None:
    """Do something once, as soon as a table was read."""
    begun = []

    def look(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if f"FROM {table}" in statement and not begun:
            begun.append(statement)
            do()

    event.listen(door.services.db.engine, "after_cursor_execute", look)


@pytest.mark.parametrize("routed", [False, True], ids=["mailbox", "route"])
def test_a_domain_that_ceases_to_be_local_makes_no_bounce_and_leaves_no_copy_out(door: Locked, routed: bool) -> None:
    tenant = door.tenant("acme")
    key = door.key(tenant, scopes=list(Scope))["key"]
    assert door.ask("POST", "/domains", key, json={"name": "brief.test", "local": True}).status_code == 201
    assert door.ask("POST", "/mailboxes", key, json={"address": "ann@brief.test"}).status_code == 201
    if routed:
        route = {"actions": [{"forward": ["away@else.test"]}], "match": {"recipient": "ann@brief.test"}}
        assert door.ask("POST", "/inbound-routes", key, json=route).status_code == 201
    services, to = door.services, "ann@brief.test"
    relay = local_relay(services, ReturnPaths(services.db, services.vault, services.settings))
    mail = Envelope(
        "zoe@far.test", (to,), b"Subject: x\r\n\r\nhi\r\n", deliveries={to: uuid4()}, tenant_id=UUID(tenant)
    )
    [mailboxes] = [one for one in relay.destinations if one.takes("brief.test", None)]
    assert isinstance(mailboxes.deliver(mail)[to], Delivered)
    # It ceases once the relay has found that it is local, and its routes.
    after(door, "inbound_routes", lambda: cease(door))
    assert mailboxes.deliver(mail)[to] == HOMELESS
