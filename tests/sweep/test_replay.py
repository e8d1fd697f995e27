"""Claims of a worker that is gone are settled by its journal, or by the journal's silence."""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from uuid import UUID, uuid4

import pytest
from sqlalchemy import update

from mailbbgun.core.errors import ConfigurationError, MailBBGunError
from mailbbgun.database.db import db_now
from mailbbgun.deliver import journal
from mailbbgun.deliver.claim import Claim, renew
from mailbbgun.deliver.journal import Journal, path_of
from mailbbgun.messages.models import DELIVERIES, Delivery
from mailbbgun.settings.load import load
from mailbbgun.smtp.reply import Reply
from mailbbgun.sweep.replay import Expired, replay_dead, replay_one

TAKEN, GREYLISTED, NEVER = Reply(250, "2.0.0", "taken"), Reply(451, "4.7.1", "later"), Reply(552, "5.3.4", "too large")
CROWDED = Reply(554, None, "Transaction failed: Recipient count exceeds 50")  # the worker would have sent to fewer
WORN_OUT = Reply(554, "5.7.0", "Session limit reached, please reconnect")  # the worker would have reconnected
WORN_OUT_FOR_NOW = Reply(451, "4.7.0", "too many messages in this session")
OLD_MAILBOX = Reply(553, "5.6.7", "that mailbox cannot take SMTPUTF8")  # the worker would have sent without it
OLD_HEADERS = Reply(550, "5.6.9", "headers in UTF-8 are not supported there")
Told = Callable[[Journal, Claim], None]


def silence(_journal: Journal, _claim: Claim) -> None:
    """The worker died before the dot."""


def dotted(written: Journal, one: Claim) -> None:
    """The worker died between the dot and its reply."""
    written.dots([[one]])


def answered(reply: Reply) -> Told:
    """The worker died between the reply and the commit."""

    def tell(written: Journal, one: Claim) -> None:
        written.dots([[one]])
        written.replies([([one], reply)])

    return tell


def undone(written: Journal, one: Claim) -> None:
    """The worker died after it found that it must not send."""
    written.dots([[one]])
    written.undone([one])


def claim_of(row: Delivery, attempt: int = 1) -> Claim:
    return Claim(row.id, row.message_id, row.tenant_id, row.address, row.lane, attempt, row.tries, row.unknowns, 0.0)


def dies(written: Journal) -> None:
    """Leave the journal as ``kill -9`` does: the file stays, its lock is released."""
    os.close(written._file)


@pytest.mark.parametrize(
    ("told", "columns", "status", "reason", "kind", "counters"),
    [
        (silence, {}, "PENDING", None, "worker_lost", (1, 0, 0)),
        (undone, {}, "PENDING", None, "worker_lost", (1, 0, 0)),
        (silence, {"crashes": 3}, "PENDING", None, "worker_lost", (4, 0, 0)),
        (silence, {"crashes": 4}, "ERROR", "parked", "parked", (5, 0, 0)),
        (answered(TAKEN), {}, "DELIVERED", None, "delivered", (0, 0, 1)),
        (answered(TAKEN), {"crashes": 4}, "DELIVERED", None, "delivered", (4, 0, 1)),
        (answered(NEVER), {}, "ERROR", "bounced", "bounced", (0, 0, 1)),
        (answered(GREYLISTED), {}, "PENDING", None, "deferred", (0, 0, 1)),
        (answered(GREYLISTED), {"tries": 3}, "ERROR", "expired", "expired", (0, 0, 4)),
        (answered(Reply(0, "4.4.2", "the dot never left")), {}, "PENDING", None, "deferred", (0, 0, 1)),
        (answered(CROWDED), {}, "PENDING", None, "worker_lost", (1, 0, 0)),
        (answered(WORN_OUT), {}, "PENDING", None, "worker_lost", (1, 0, 0)),
        (answered(WORN_OUT_FOR_NOW), {"tries": 3}, "PENDING", None, "worker_lost", (1, 0, 3)),
        (answered(OLD_MAILBOX), {}, "PENDING", None, "worker_lost", (1, 0, 0)),
        (answered(OLD_HEADERS), {"crashes": 4}, "ERROR", "parked", "parked", (5, 0, 0)),
        (answered(Reply(421, "4.7.0", "session limit reached")), {}, "PENDING", None, "deferred", (0, 0, 1)),
        (answered(Reply(0, "5.6.7", "our own words")), {}, "ERROR", "bounced", "bounced", (0, 0, 1)),
        (dotted, {}, "PENDING", None, "outcome_unknown", (0, 1, 1)),
        (dotted, {"unknowns": 1}, "PENDING", None, "outcome_unknown", (0, 2, 1)),
        (dotted, {"unknowns": 2}, "ERROR", "outcome_unknown", "outcome_unknown", (0, 3, 1)),
    ],
)  # fmt: skip
def test_a_dead_workers_journal_decides(store, owner, told, columns, status, reason, kind, counters):
    row = store.claimed(owner, **columns)
    written = Journal(store.services.settings.journal_folder, owner)
    told(written, claim_of(row))
    dies(written)
    assert replay_dead(store.services.db, store.services.settings) == 1
    ended = store.row(row.id)
    assert (ended.status, ended.reason, ended.lease_owner, ended.lease_until) == (status, reason, None, None)
    assert (ended.crashes, ended.unknowns, ended.tries) == counters
    assert ended.published_at is None
    assert store.kinds(row.id) == [kind]
    (path,) = store.services.settings.journal_folder.iterdir()  # a commit the worker had begun may still come through
    os.utime(path, (0, 0))
    assert replay_dead(store.services.db, store.services.settings) == 0
    assert list(store.services.settings.journal_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("told", "attempts"),
    [(silence, 0), (undone, 0), (answered(CROWDED), 1), (answered(WORN_OUT), 1), (answered(OLD_MAILBOX), 1)],
)
def test_an_attempt_counts_as_one_where_a_server_has_replied_to_its_dot(store, owner, told, attempts):
    row = store.claimed(owner)
    written = Journal(store.services.settings.journal_folder, owner)
    told(written, claim_of(row))
    dies(written)
    replay_dead(store.services.db, store.services.settings)
    assert (store.row(row.id).status, store.row(row.id).attempts or 0) == ("PENDING", attempts)


@pytest.mark.parametrize("told", [dotted, answered(TAKEN), answered(GREYLISTED)], ids=["dotted", "taken", "greylisted"])
def test_a_line_about_an_earlier_attempt_says_nothing_of_a_later_one(store, owner, told):
    row = store.claimed(owner, attempt=2, tries=1)
    written = Journal(store.services.settings.journal_folder, owner)
    told(written, claim_of(row, attempt=1))
    dies(written)
    replay_dead(store.services.db, store.services.settings)
    assert (store.kinds(row.id), store.row(row.id).tries) == (["worker_lost"], 1)


def test_a_worker_that_lives_keeps_its_claims_until_they_run_out(store, owner):
    held, lapsed, sent = store.claimed(owner), store.claimed(owner, leased=-1), store.claimed(owner, leased=-1)
    written = Journal(store.services.settings.journal_folder, owner)
    written.dots([[claim_of(sent)]])
    assert replay_dead(store.services.db, store.services.settings) == 0
    assert settle_after_a_while(store) == 2
    assert store.row(held.id).lease_owner == owner
    assert (store.kinds(lapsed.id), store.row(lapsed.id).crashes) == (["worker_lost"], 0)
    assert store.kinds(sent.id) == ["outcome_unknown"]
    assert path_of(store.services.settings.journal_folder, owner).exists()
    written.close()


def settle_after_a_while(store):
    """Let a sweeper see expired claims twice, half a lease apart."""
    expired = Expired(store.services.db, store.services.settings)
    assert expired.settle() == 0, "they may be renewed any moment"
    expired._seen = {
        worker: first - store.services.settings.LEASE_SECONDS / 2 for worker, first in expired._seen.items()
    }
    return expired.settle()


@pytest.mark.parametrize(("leased", "settled"), [(100, 0), (-1, 1), (-1000, 1)])
def test_claims_without_a_journal_are_unknown_once_they_stayed_expired_for_half_a_lease(store, owner, leased, settled):
    row = store.claimed(owner, leased=leased)
    assert settle_after_a_while(store) == settled
    assert store.kinds(row.id) == ["outcome_unknown"] * settled


def test_a_lease_renewed_after_an_outage_is_left_alone(store, owner):
    row = store.claimed(owner, leased=-1000)
    expired = Expired(store.services.db, store.services.settings)
    expired.settle()
    renew(store.services.db, owner, [claim_of(row)], 60)
    expired._seen = {worker: first - 1000 for worker, first in expired._seen.items()}
    assert expired.settle() == 0
    assert store.kinds(row.id) == []


@pytest.mark.parametrize("name", ["copy.journal", "0190c7e2-0000-7000-8000-000000000000.journal"])
def test_an_odd_file_among_the_journals_stops_nothing(store, owner, name):
    row = store.claimed(owner)
    written = Journal(store.services.settings.journal_folder, owner)
    dies(written)
    (store.services.settings.journal_folder / name).write_bytes(b'{"boot": 1}\n[1, 2]\n')
    assert replay_dead(store.services.db, store.services.settings) == 1
    assert store.kinds(row.id) == ["worker_lost"]


def _closed(path, monkeypatch) -> None:
    """Let the path be another user's. (Root, who may run the tests, may open any file.)"""
    really = os.open

    def refuse(opened, *arguments, **options):
        if os.fspath(opened) == os.fspath(path):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return really(opened, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)


def test_a_journal_of_another_user_stops_nothing_and_its_claims_become_unknown_once_they_run_out(
    store, owner, monkeypatch, caplog
):
    row, other = store.claimed(owner), uuid4()
    late = store.claimed(other, leased=-1.0)
    folder = store.services.settings.journal_folder
    dies(Journal(folder, owner))
    dies(Journal(folder, other))
    _closed(path_of(folder, other), monkeypatch)
    assert replay_dead(store.services.db, store.services.settings) == 1
    assert store.kinds(row.id) == ["worker_lost"]
    assert settle_after_a_while(store) == 1
    assert store.kinds(late.id) == ["outcome_unknown"]
    assert {one.msg for one in caplog.records if one.levelname == "ERROR"} == {"journal_unreadable"}


def test_a_folder_of_journals_that_cannot_be_read_is_told(store, caplog):
    folder = store.services.settings.journal_folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("no folder")
    assert replay_dead(store.services.db, store.services.settings) == 0
    assert "journal_unreadable" in caplog.messages


@pytest.mark.parametrize("damage", ["another boot", "a damaged line"])
def test_a_journal_that_may_have_lost_lines_proves_nothing_by_silence(store, owner, damage):
    row, known = store.claimed(owner), store.claimed(owner)
    written = Journal(store.services.settings.journal_folder, owner)
    answered(TAKEN)(written, claim_of(known))
    dies(written)
    path = path_of(store.services.settings.journal_folder, owner)
    if damage == "another boot":
        path.write_bytes(path.read_bytes().replace(journal.boot_id().encode(), b"another-boot"))
    else:
        path.write_bytes(path.read_bytes() + b"\0\0\0\0\n")
    assert replay_dead(store.services.db, store.services.settings) == 2
    assert store.kinds(row.id) == ["outcome_unknown"]
    assert store.kinds(known.id) == ["delivered"]


def test_an_unknown_outcome_is_final_where_on_unknown_is_hold(store, owner):
    settings = load({"MAILBBGUN_VAR": store.services.settings.VAR, "MAILBBGUN_ON_UNKNOWN": "hold"})
    row = store.claimed(owner)
    written = Journal(settings.journal_folder, owner)
    written.dots([[claim_of(row)]])
    dies(written)
    assert replay_one(store.services.db, settings, owner) == 1
    assert (store.row(row.id).status, store.row(row.id).reason) == ("ERROR", "outcome_unknown")


def test_a_worker_without_a_journal_is_not_replayed(store, owner):
    row = store.claimed(owner)
    assert replay_one(store.services.db, store.services.settings, owner) == 0
    assert store.row(row.id).lease_owner == owner


def test_a_journal_rotated_while_it_was_opened_is_not_taken_for_a_dead_workers(tmp_path, owner: UUID, monkeypatch):
    written = Journal(tmp_path, owner)
    opened = os.open

    def open_and_rotate(path, *arguments):
        file = opened(path, *arguments)
        monkeypatch.setattr(os, "open", opened)
        written._rotate()
        return file

    monkeypatch.setattr(os, "open", open_and_rotate)
    with journal.locked(written.path) as dead:
        assert not dead
    written.close()


@pytest.mark.parametrize(("number", "wrong"), [(errno.ENOSPC, False), (errno.EACCES, True)])
def test_a_journal_that_has_no_room_now_is_no_wrong_setting(tmp_path, owner: UUID, monkeypatch, number, wrong):
    def full(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(MailBBGunError, match="cannot be written: ") as caught:
        Journal(tmp_path, owner)
    assert isinstance(caught.value, ConfigurationError) is wrong


def test_a_torn_line_does_not_spoil_the_next(tmp_path, monkeypatch):
    written = Journal(tmp_path, uuid4())
    torn, whole = (Claim(uuid4(), uuid4(), uuid4(), "a@b.test", "normal", 1, 0, 0, 0.0) for _ in range(2))
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, line: real(file, line[: len(line) // 2]))
    with suppress(OSError):
        written.dots([[torn]])
    assert not written.works()
    monkeypatch.undo()
    assert written.works()
    written.dots([[whole]])
    told = journal.read(written.path, alive=True)
    assert told is not None
    assert told.same_boot
    assert told.answers == {(whole.delivery_id, 1): None}
    written.close()


@pytest.mark.parametrize(("stopped", "crashes"), [(True, 4), (False, 5)])
def test_a_worker_that_was_told_to_stop_was_not_killed_by_what_it_could_not_give_back(store, owner, stopped, crashes):
    unsent, sent = store.claimed(owner, crashes=4), store.claimed(owner)
    written = Journal(store.services.settings.journal_folder, owner)
    written.dots([[claim_of(sent)]])
    written.close(keep=True, stopped=stopped)
    assert replay_dead(store.services.db, store.services.settings) == 2
    assert store.row(unsent.id).crashes == crashes
    assert store.kinds(unsent.id) == ["worker_lost" if stopped else "parked"]
    assert store.kinds(sent.id) == ["outcome_unknown"]


@pytest.mark.parametrize("store", ["postgresql"], indirect=True)  # SQLite does not commit for a dead process
def test_a_claim_that_is_committed_after_its_workers_death_was_found_was_not_sent(store, owner):
    (row,) = store.add()
    written = Journal(store.services.settings.journal_folder, owner)
    os.utime(written.path, (0, 0))  # the worker had nothing to write for long
    written.touch()
    claimed = {"lease_owner": owner, "lease_until": db_now(-1), "attempt": 1}
    with store.services.db.write() as session:
        session.execute(update(DELIVERIES).where(DELIVERIES.c.id == row).values(claimed))
        dies(written)
        assert replay_dead(store.services.db, store.services.settings) == 0
    assert replay_dead(store.services.db, store.services.settings) == 1
    assert (store.kinds(row), store.row(row).unknowns) == (["worker_lost"], 0)
