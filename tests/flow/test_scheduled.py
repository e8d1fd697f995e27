"""Scheduled mail from the door to the sink, with real workers."""

from collections import Counter
from datetime import UTC, datetime, timedelta

from tests.waiting import PATIENCE


def later(seconds):
    return datetime.now(UTC) + timedelta(seconds=seconds)


def test_scheduled_mail_leaves_once_after_its_time_a_moved_one_at_its_new_time_and_a_cancelled_one_never(running):
    running.renew()
    due, far = later(4), later(3600)
    prompt = [running.post(to=f"prompt{n}@at.test", send_at=due.isoformat())["id"] for n in range(60)]
    moved = running.post(to="moved@at.test", send_at=far.isoformat())["id"]
    # Long before their time, since this machine may be slow: what is sent already cannot be cancelled.
    cancelled = [running.post(to=f"cancelled{n}@at.test", send_at=far.isoformat())["id"] for n in range(20)]
    late = running.post(to="late@at.test", send_at=far.isoformat(), ttl=3600)["id"]
    for one in cancelled:
        assert running.http.delete(f"{running.url}/messages/{one}", timeout=PATIENCE).status_code == 200
    change = {"send_at": later(5).isoformat()}
    assert running.http.patch(f"{running.url}/messages/{moved}", json=change, timeout=PATIENCE).status_code == 200
    for one in [*prompt, moved]:
        message = running.ended(one, "DELIVERED")
        (delivery,) = message["deliveries"]
        assert delivery["finished_at"] >= message["send_at"]
    assert running.copies() == Counter([f"prompt{n}@at.test" for n in range(60)] + ["moved@at.test"])
    assert running.message(late)["status"] == "PENDING"
    assert {running.message(one)["status"] for one in cancelled} == {"CANCELLED"}
    assert running.kinds(moved) == ["accepted", "scheduled", "rescheduled", "delivered"]


def test_mail_that_no_server_takes_in_its_time_ends_as_expired_and_is_never_sent(running):
    running.renew()
    identifier = running.post(to="nobody@late.test", send_at=later(2).isoformat(), ttl=1)["id"]
    # It becomes due for a service whose workers are busy elsewhere: by hand, so that no clock decides.
    running.sql("UPDATE messages SET useful_until = created_at WHERE id = :id", id=identifier.replace("-", ""))
    message = running.ended(identifier, "ERROR")
    assert message["reason"] == "expired"
    assert running.copies()["nobody@late.test"] == 0
