"""The sums equal a recount of the log, whatever is killed."""

import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import insert

from mailbbgun import schema
from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from mailbbgun.database.db import Database
from mailbbgun.events import log
from mailbbgun.events.kinds import Kind
from mailbbgun.messages.models import MESSAGES
from mailbbgun.settings.load import load
from mailbbgun.statistics.figures import quantile
from mailbbgun.statistics.follow import Follower
from mailbbgun.statistics.models import READERS
from mailbbgun.statistics.rebuild import first_whole_day, rebuild
from mailbbgun.tenants.models import Tenant
from tests.statistics.worlds import counted, recounted, send, stored
from tests.waiting import PATIENCE, wait_until

ROOT = Path(__file__).parents[2]
KEPT = {"MAILBBGUN_STATISTICS_MINUTE_DAYS": "10"}
#: A process that counts a few events a turn until it is killed.
READER = """
import sys, threading
from mailbbgun.core.ids import new_id
from mailbbgun.database.db import Database
from mailbbgun import schema
from mailbbgun.events import log
from mailbbgun.events.kinds import Kind
from mailbbgun.settings.load import load
from mailbbgun.statistics.follow import Follower
follower = Follower(Database(sys.argv[1]), load({"MAILBBGUN_STATISTICS_MINUTE_DAYS": "10"}), new_id(), events=7)
print("begun", flush=True)
while True:
    follower._leased.clear()
    follower.run(threading.Event())
"""


def follower(db: Database, **settings: str) -> Follower:
    given = KEPT | {f"MAILBBGUN_{name}": value for name, value in settings.items()}
    return Follower(db, load(given), new_id(), events=50)


def free(db: Database) -> None:
    """Let the lease of a process that was killed run out at once."""
    with db.write() as session:
        session.execute(READERS.update().values(lease_until=None))


def test_sums_equal_a_recount_and_so_does_a_rebuild(db: Database) -> None:
    dice = random.Random(1)
    for _ in range(3):
        send(db, dice, 60)
        follower(db).run(threading.Event())
        free(db)
    assert counted(db) == recounted(db)
    before = stored(db)
    delivered = sum(its["delivered"] for name, its in counted(db).items() if name[:2] == ("day", "none"))
    timed = Counter()
    for name, (_, times) in before.items():
        if name[:2] == ("day", "none"):
            timed.update({int(bucket): number for bucket, number in times.items()})
    assert sum(timed.values()) == delivered
    assert quantile(timed, 1.0) < 1.1 * 300_000
    assert rebuild(db, load(KEPT), DEFAULT_TENANT, new_id()) is None
    assert stored(db) == before


def test_readers_that_are_killed_at_any_moment_count_each_event_once(db: Database) -> None:
    dice = random.Random(2)
    url = db.url.render_as_string(hide_password=False)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for _ in range(3):
        send(db, dice, 25)
        with subprocess.Popen(
            [sys.executable, "-c", READER, url], cwd=ROOT, env=environment, stdout=subprocess.PIPE
        ) as reader:
            assert reader.stdout is not None
            reader.stdout.readline()
            seen = len(stored(db))
            wait_until(lambda seen=seen: len(stored(db)) > seen, "more sums", patience=PATIENCE)
            reader.send_signal(signal.SIGKILL)
        free(db)
    both = [threading.Thread(target=follower(db).run, args=[threading.Event()]) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert counted(db) == recounted(db)


def test_another_process_takes_over_only_once_the_lease_has_ended(db: Database) -> None:
    send(db, random.Random(3), 5)
    first, second = follower(db), follower(db)
    first.run(threading.Event())
    send(db, random.Random(4), 5)
    second.run(threading.Event())
    assert counted(db) != recounted(db)
    free(db)
    second.run(threading.Event())
    assert counted(db) == recounted(db)


def test_labels_beyond_the_limit_are_summed_up_and_old_figures_are_deleted(db: Database) -> None:
    send(db, random.Random(5), 40, days=6)
    few = follower(db, STATISTICS_LABELS="2", STATISTICS_MINUTE_DAYS="1", STATISTICS_HOUR_DAYS="3")
    few.run(threading.Event())
    days = [name for name in stored(db) if name[:2] == ("day", "domain")]
    of_a_day = Counter((start, test) for _, _, value, start, test in days if value)
    assert max(of_a_day.values()) == 2
    assert [name for name in days if not name[2]]
    told, every = counted(db), recounted(db)
    assert sum(told[name]["accepted"] for name in told if name[:2] == ("day", "domain")) == sum(
        every[name]["accepted"] for name in every if name[:2] == ("day", "domain")
    )
    follower(db, STATISTICS_MINUTE_DAYS="1", STATISTICS_HOUR_DAYS="1", STATISTICS_DAYS="2").forget_old(
        threading.Event()
    )
    left = {interval: {name[3] for name in stored(db) if name[0] == interval} for interval in ("hour", "day")}
    assert max(left["hour"]) - min(left["hour"]) <= 86_400 + 3600
    assert len(left["day"]) <= 3


def test_a_rebuild_leaves_days_alone_whose_messages_may_be_gone(db: Database) -> None:
    send(db, random.Random(6), 30, days=6)
    follower(db).run(threading.Event())
    before = stored(db)
    settings = load(KEPT | {"MAILBBGUN_METADATA_DAYS": "2"})
    since = first_whole_day(settings, 10 * 86_400 + 5.0)
    assert since == 9 * 86_400
    from_then = rebuild(db, settings, DEFAULT_TENANT, new_id())
    assert from_then is not None
    assert stored(db) == before


def test_events_without_a_message_move_the_cursor_and_count_nothing(db: Database) -> None:
    with db.write() as session:
        log.append(session, [log.event(DEFAULT_TENANT, None, None, Kind.HELD, {}) for _ in range(5)])
    one = follower(db)
    one.run(threading.Event())
    assert one._behind() == []
    assert stored(db) == {}


def test_an_event_that_cannot_be_counted_stops_the_figures_of_its_tenant_alone(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path}/mailbbgun.db")
    schema.upgrade(db)
    other = new_id()
    with db.write() as session:
        session.execute(insert(Tenant).values(id=other, name="other", status="active", created_at=datetime.now(UTC)))
        later = log.event(DEFAULT_TENANT, None, None, Kind.HELD, {}) | {"kind": "of_a_later_version"}
        log.append(session, [later])
    send(db, random.Random(7), 5, tenant_id=other)
    one = follower(db)
    one.run(threading.Event())
    assert one._behind() == [DEFAULT_TENANT]
    assert counted(db, other) == recounted(db, other)
    db.close()


def test_mail_that_another_server_sent_is_not_counted(db: Database) -> None:
    send(db, random.Random(2), 3)
    with db.write() as session:
        session.execute(MESSAGES.update().values(received=True))
    follower(db).run(threading.Event())
    assert not stored(db)
