"""Messages a day of a tenant: exact with many clients, and without effect on others."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import requests
from sqlalchemy import func, insert, select

from mailbbgun.core.errors import QuotaExceeded
from mailbbgun.core.ids import new_id
from mailbbgun.limits import quota
from mailbbgun.limits.quota import DAY, Want
from mailbbgun.messages.models import Message
from mailbbgun.tenants.models import USAGE
from tests.accept.conftest import services  # noqa: F401 - a fixture
from tests.accept.test_store import Stored, rows
from tests.flow.service import until
from tests.tenants.conftest import HELLO, code, opened
from tests.waiting import PATIENCE


def taken(services, **wants: tuple[object, int, int]) -> dict:  # noqa: F811
    """Take messages (given as tenant, number, quota), and return how many were granted."""
    with services.db.write() as session:
        rooms = quota.take(session, {tenant: Want(n, per_day) for tenant, n, per_day in wants.values()})
    # Two days: the stored day may be tomorrow.
    assert all(0 < room.day_left <= 2 * DAY for room in rooms.values())
    return {name: rooms[tenant].n for name, (tenant, _, _) in wants.items()}


def test_as_many_messages_are_granted_as_the_quota_has_room_for(services):  # noqa: F811
    one, other = new_id(), new_id()
    assert taken(services) == {}
    assert taken(services, a=(one, 3, 5), b=(other, 9, 4)) == {"a": 3, "b": 4}
    assert taken(services, a=(one, 3, 5), b=(other, 1, 4)) == {"a": 2, "b": 0}
    assert taken(services, a=(one, 3, 5)) == {"a": 0}
    assert taken(services, a=(one, 3, 7)) == {"a": 2}  # the quota was raised
    assert taken(services, a=(one, 3, 2)) == {"a": 0}  # the quota was lowered
    assert taken(services, a=(one, 3, 0), b=(new_id(), 1, 0)) == {"a": 0, "b": 0}


@pytest.mark.parametrize(("ahead", "granted"), [(-400, 4), (-1, 4), (0, 1), (1, 1), (2, 4), (400, 4)])
def test_only_the_count_of_today_or_tomorrow_matters_whatever_the_clock_was(services, ahead, granted):  # noqa: F811
    tenant = new_id()
    today = int(datetime.now(UTC).timestamp()) // DAY
    with services.db.write() as session:
        session.execute(
            insert(USAGE), {"tenant_id": tenant, "day": today + ahead, "used": 3, "granted": 3, "per_day": 4}
        )
    assert sum(taken(services, a=(tenant, 1, 4))["a"] for _ in range(6)) == granted


def test_a_rollback_undoes_the_count(services):  # noqa: F811
    tenant = new_id()
    with services.db.write() as session:
        assert quota.take(session, {tenant: Want(4, 5)})[tenant].n == 4
        session.rollback()
    assert taken(services, a=(tenant, 9, 5)) == {"a": 5}


def of(tenant, per_day, number=0):
    """Return the rows of a message of a tenant with this quota."""
    made = rows(number, tenant_id=tenant)
    return type(made)(made.message, [one | {"tenant_id": tenant} for one in made.deliveries], made.response, per_day)


def stored_of(services, tenant) -> int:  # noqa: F811
    with services.db.read() as session:
        return session.scalar(select(func.count()).select_from(Message).where(Message.tenant_id == tenant))


def test_a_tenant_over_its_quota_does_not_fail_the_others_of_its_commit(services):  # noqa: F811
    small, large, free = new_id(), new_id(), new_id()
    store = Stored(services.db)
    begun = [
        store.begin(of(tenant, per_day, n % 20))
        for n in range(60)
        for tenant, per_day in ((small, 7), (large, 1000), (free, None))
    ]
    stored = [pending.result() for n, pending in enumerate(begun) if n % 3 or n < 21]  # first come, first served
    assert stored == [None] * 127
    for pending in begun[21::3]:
        with pytest.raises(QuotaExceeded) as caught:
            pending.result()
        assert (caught.value.status, caught.value.limit) == (429, 7)
        assert 0 < caught.value.retry_after <= DAY
    assert [stored_of(services, tenant) for tenant in (small, large, free)] == [7, 60, 60]
    assert len(store) == 127  # no hint of a refused message is published
    with pytest.raises(QuotaExceeded):  # this process knows it by now, and needs no commit to refuse
        store.store.pending(of(small, 7), None, lambda: None)
    assert store(of(small, 8)) is None
    store.store.close()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def door(request, tmp_path_factory):
    settings = {}
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql")
        settings["DATABASE_URL"] = server.url(server.create_database())
    with opened(tmp_path_factory.mktemp("quota"), 2, **settings) as opened_:
        yield opened_


def post(door, key: str, **options) -> requests.Response:
    headers = {"Authorization": f"Bearer {key}", **options.pop("headers", {})}
    # On a new connection, so that either process may answer.
    return requests.post(f"{door.url}/messages", json=HELLO | options, headers=headers, timeout=PATIENCE)


def test_sixteen_clients_of_two_processes_get_exactly_the_quota(door):
    tenant = door.tenant("sixteen", max_messages_per_day=100)
    keys = [door.key(tenant)["key"] for _ in range(4)]
    neighbour = door.key(door.tenant("neighbour of sixteen"))["key"]

    def send(number: int) -> tuple[int, int]:
        idempotent = {"headers": {"Idempotency-Key": f"sixteen {number}"}} if number % 3 == 0 else {}
        own = post(door, keys[number % 4], **idempotent).status_code
        return own, post(door, neighbour).status_code if number % 10 == 0 else 201

    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(send, range(240)))
    assert Counter(status for status, _ in answers) == {201: 100, 429: 140}
    assert {status for _, status in answers} == {201}
    assert door.ask("GET", "/messages?limit=0", keys[0]).json()["count"] == 100


def test_a_tenant_over_its_quota_gets_429_until_midnight_and_may_still_read(door):
    tenant = door.tenant("midnight", max_messages_per_day=2)
    key = door.key(tenant)["key"]
    assert [post(door, key).status_code for _ in range(2)] == [201, 201]
    for _ in range(6):
        refused = post(door, key)
        assert code(refused) == (429, "quota_exceeded")
        now = datetime.now(UTC)
        midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        assert abs(int(refused.headers["Retry-After"]) - (midnight - now).total_seconds()) < 5
        assert refused.headers["RateLimit-Limit"] == "2"
        assert refused.headers["RateLimit-Remaining"] == "0"
        assert refused.headers["RateLimit-Reset"] == refused.headers["Retry-After"]
    assert door.ask("GET", "/messages", key).json()["count"] == 2
    door.ask("PATCH", f"/tenants/{tenant}", door.admin, json={"max_messages_per_day": 3})
    until(lambda: post(door, key).status_code == 201, 2.0)
    assert code(post(door, key)) == (429, "quota_exceeded")
    door.ask("PATCH", f"/tenants/{tenant}", door.admin, json={"max_messages_per_day": None})
    until(lambda: {post(door, key).status_code for _ in range(8)} == {201}, 3.0)


def test_a_repeated_answer_is_not_counted_and_is_given_even_over_the_quota(door):
    key = door.key(door.tenant("replays", max_messages_per_day=3))["key"]
    first = post(door, key, headers={"Idempotency-Key": "one"})
    again = [post(door, key, headers={"Idempotency-Key": "one"}) for _ in range(5)]
    assert {answer.json()["id"] for answer in again} == {first.json()["id"]}
    assert [post(door, key).status_code for _ in range(3)] == [201, 201, 429]
    assert post(door, key, headers={"Idempotency-Key": "one"}).json()["id"] == first.json()["id"]
    assert code(post(door, key, headers={"Idempotency-Key": "one"}, text="another")) == (422, "idempotency_mismatch")


def test_the_idempotency_key_of_a_refused_message_can_be_used_again(door):
    tenant = door.tenant("refused key", max_messages_per_day=0)
    key = door.key(tenant)["key"]
    assert [code(post(door, key, headers={"Idempotency-Key": "two"})) for _ in range(3)] == [
        (429, "quota_exceeded")
    ] * 3
    door.ask("PATCH", f"/tenants/{tenant}", door.admin, json={"max_messages_per_day": 1})
    taken_ = until(
        lambda: (answer := post(door, key, headers={"Idempotency-Key": "two"})).status_code == 201 and answer, 2.0
    )
    assert "Idempotent-Replayed" not in taken_.headers
    assert post(door, key, headers={"Idempotency-Key": "two"}).json()["id"] == taken_.json()["id"]


def test_an_invalid_message_is_not_counted(door):
    key = door.key(door.tenant("invalid", max_messages_per_day=1))["key"]
    assert {post(door, key, to="nobody").status_code for _ in range(4)} == {400}
    assert [post(door, key).status_code for _ in range(2)] == [201, 429]


def test_a_large_message_is_counted_like_every_other(door):
    key = door.key(door.tenant("large", max_messages_per_day=2))["key"]
    text = "All work and no play. " * 47_000  # too large to share a commit
    assert [post(door, key, text=text).status_code for _ in range(3)] == [201, 201, 429]


def test_test_mail_uses_nothing_of_the_live_quota_and_has_one_as_large(door):
    tenant = door.tenant("two worlds", max_messages_per_day=2)
    live, test, other_test = (door.key(tenant, kind=kind)["key"] for kind in ("live", "test", "test"))
    assert [post(door, key).status_code for key in (test, other_test, test, other_test)] == [201, 201, 429, 429]
    assert [post(door, live).status_code for _ in range(3)] == [201, 201, 429]
    assert code(post(door, test)) == (429, "quota_exceeded")
    assert door.ask("GET", "/messages?test=true&limit=0", live).json()["count"] == 2


def test_live_and_test_messages_of_one_commit_have_a_quota_each(services):  # noqa: F811
    tenant, store = new_id(), Stored(services.db)
    pairs = [(of(tenant, 3, n), of(tenant, 3, n)) for n in range(6)]
    begun = []
    for live, other in pairs:
        test = type(other)({**other.message, "test": True}, other.deliveries, other.response, other.per_day)
        begun += [store.begin(live), store.begin(test)]
    assert [pending.result() for pending in begun[:6]] == [None] * 6
    for pending in begun[6:]:
        with pytest.raises(QuotaExceeded):
            pending.result()
    assert stored_of(services, tenant) == 6
    store.store.close()
