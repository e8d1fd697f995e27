"""Requests that wait for events: one that cannot be served does not keep the others, or later ones, waiting."""

from uuid import UUID

import pytest

from mailbbgun.core.errors import RateLimited, TookTooLong
from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from mailbbgun.events.following import watch
from mailbbgun.events.following.pages import EventQuery
from mailbbgun.events.following.watch import MOST_OF_KEY, MOST_OF_TENANT, EventWatch
from mailbbgun.events.reading import START
from mailbbgun.services import Services
from tests.accept.conftest import services as services  # the fixture
from tests.events.test_reading import append, of_message
from tests.waiting import PATIENCE

ASKED = EventQuery(DEFAULT_TENANT, 10, after=START)


def test_a_fault_ends_the_waits_it_is_about_and_no_later_ones(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed, key = EventWatch(services.db), new_id()
    append(services.db, of_message())
    with monkeypatch.context() as broken:
        broken.setattr(watch, "tenants_with_events_after", lambda *_: 1 / 0)
        waits = [followed.wait_for(key, ASKED, PATIENCE) for _ in range(MOST_OF_KEY)]
        with pytest.raises(RateLimited, match="At most 10 requests"):
            followed.wait_for(key, ASKED, PATIENCE)
        assert [len(one.result().events) for one in waits] == [1] * MOST_OF_KEY  # each looks by itself
    # A look that takes too long ends its own wait, and the request looks by itself.
    monkeypatch.setattr(EventWatch, "look", _slow(EventWatch.look))
    assert len(followed.wait_for(key, ASKED, PATIENCE).result().events) == 1
    followed.close()


def _slow(look):
    def slowly(self, asked, seconds=PATIENCE):
        if seconds == watch.LONGEST_LOOK:
            raise TookTooLong("as the database does")
        return look(self, asked, seconds)

    return slowly


def test_many_keys_of_a_tenant_leave_room_to_other_tenants(services: Services) -> None:
    followed = EventWatch(services.db)
    waits = [followed.wait_for(new_id(), ASKED, PATIENCE) for _ in range(MOST_OF_TENANT)]
    with pytest.raises(RateLimited, match="100 of a tenant"):
        followed.wait_for(new_id(), ASKED, PATIENCE)
    other = followed.wait_for(new_id(), ASKED._replace(tenant_id=UUID(int=7)), PATIENCE)
    for one in (*waits, other):
        followed.add(one)
    followed.close()
    assert followed.wait_for(new_id(), ASKED, PATIENCE)
