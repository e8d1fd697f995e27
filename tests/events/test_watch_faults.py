"""Requests that wait for events: what fails for one of them fails for no other."""

from uuid import UUID

from sqlalchemy import update

from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from mailbbgun.events.following.pages import EventQuery
from mailbbgun.events.following.watch import EventWatch
from mailbbgun.events.models import EVENTS
from mailbbgun.events.reading import START
from tests.accept.conftest import services as services  # the fixture
from tests.events.test_reading import OTHER, append, of_message
from tests.waiting import PATIENCE


def test_requests_wait_on_though_the_log_of_another_tenant_cannot_be_read(services) -> None:
    append(services.db, of_message(tenant=OTHER))
    with services.db.write() as session:
        session.execute(update(EVENTS).where(EVENTS.c.tenant_id == OTHER).values(kind="of_a_later_version"))
    watch = EventWatch(services.db)
    broken = watch.wait_for(new_id(), EventQuery(OTHER, 10, after=START), PATIENCE)
    right = watch.wait_for(new_id(), EventQuery(DEFAULT_TENANT, 10, after=START), PATIENCE)
    for one in (broken, right):
        one.begin(lambda: None)
    assert broken._over.wait(PATIENCE)
    assert not broken.ended  # whoever asks is told why, by asking once more
    append(services.db, of_message())
    assert right._over.wait(PATIENCE)
    assert [one.tenant_id for one in right.result().events] == [DEFAULT_TENANT]
    watch.close()


def test_a_wait_that_begins_after_the_end_ends_at_once(services) -> None:
    watch = EventWatch(services.db)
    watch.close()
    assert watch.wait_for(UUID(int=1), EventQuery(DEFAULT_TENANT, 10, after=START), PATIENCE).result().events == []
