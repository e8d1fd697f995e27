"""Claims whose worker is gone: what its journal says becomes their result."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from mailbbgun.base.db import Database, db_now
from mailbbgun.base.settings import Settings
from mailbbgun.deliver.claim import Claim
from mailbbgun.deliver.desk import policy
from mailbbgun.deliver.journal import FRESH, SUFFIX, Replay, held, path_of, read
from mailbbgun.deliver.retry import Policy, judge, lost_unknown, lost_unsent
from mailbbgun.events import record
from mailbbgun.events.record import Result
from mailbbgun.messages.models import Delivery
from mailbbgun.smtp.outcome import Phase, TooMany, classify

PARK_AT = 5  # claims that died with their worker
BATCH = 500  # claims a transaction
NO_JOURNAL_GRACE = 30  # seconds an expired lease waits for the machine that holds its journal to come back first

log = logging.getLogger("mailbbgun.sweep")


def replay_dead(db: Database, settings: Settings) -> int:
    """Replay every journal in the folder whose worker is dead, and delete it. Returns how many claims were settled.

    Raises :class:`DatabaseUnavailable`; what is not settled stays in its file.
    """
    return sum(_replay(db, settings, path) for path in sorted(settings.journal_folder.glob(f"*{SUFFIX}")))


def replay_one(db: Database, settings: Settings, owner: UUID) -> int:
    """Replay the journal of one worker that is known to be dead; without a journal its claims wait for their lease's end."""
    return _replay(db, settings, path_of(settings.journal_folder, owner))


def _replay(db: Database, settings: Settings, path: Path) -> int:
    with held(path) as ours:
        replay = read(path, alive=False) if ours else None
        settled = _settle(db, settings, replay.owner, replay, expired_only=False) if replay else 0
        if ours:
            path.unlink(missing_ok=True)
            path.with_suffix(FRESH).unlink(missing_ok=True)
    return settled


def settle_expired(db: Database, settings: Settings) -> int:
    """Settle claims whose lease has run out: by the journal if it is on this machine, else, after a while more, as unknown."""
    with db.read() as session:
        expired = select(Delivery.lease_owner, func.min(Delivery.lease_until) < db_now(-_grace(settings))).where(
            Delivery.lease_owner.is_not(None), Delivery.lease_until < db_now()
        )
        owners = session.execute(expired.group_by(Delivery.lease_owner)).all()
    settled = 0
    for owner, overdue in owners:
        assert owner is not None  # by the WHERE above
        replay = _read_any(path_of(settings.journal_folder, owner))
        if replay is not None or overdue:
            settled += _settle(db, settings, owner, replay, expired_only=True)
    return settled


def _grace(settings: Settings) -> int:
    return min(NO_JOURNAL_GRACE, settings.LEASE_SECONDS)


def _read_any(path: Path) -> Replay | None:
    with held(path) as dead:
        return read(path, alive=not dead)


def _settle(db: Database, settings: Settings, owner: UUID, replay: Replay | None, *, expired_only: bool) -> int:
    total = 0
    rules = policy(settings)
    while True:
        with db.write() as session:
            claims = _claims_of(session, owner, expired_only)
            # No delay queue is told here: the tick hints these when they are due.
            results = [replace(_result(one, crashes, replay, rules), hinted=0) for one, crashes in claims]
            total += len(record.results(session, owner, results))
        if len(claims) < BATCH:
            break
    if total:
        log.warning("claims_recovered", extra={"worker": owner, "claims": total, "journal": replay is not None})
    return total


def _claims_of(session: Session, owner: UUID, expired_only: bool) -> Sequence[tuple[Claim, int]]:
    columns = (Delivery.id, Delivery.message_id, Delivery.address, Delivery.lane, Delivery.attempt, Delivery.tries, Delivery.unknowns)
    statement = select(*columns, Delivery.crashes).where(Delivery.lease_owner == owner).limit(BATCH).with_for_update(skip_locked=True)
    if expired_only:
        statement = statement.where(Delivery.lease_until < db_now())
    return [(Claim(*row[:-1], lease_ends=0.0), row[-1]) for row in session.execute(statement).all()]


def _result(claim: Claim, crashes: int, replay: Replay | None, rules: Policy) -> Result:
    key = claim.delivery_id, claim.attempt
    if replay is not None and key in replay.told:
        reply = replay.told[key]
        outcome = classify(Phase.DOT, reply) if reply is not None else None
        return lost_unknown(claim, rules) if outcome is None or isinstance(outcome, TooMany) else judge(outcome, claim, rules)
    if replay is not None and replay.same_boot:
        return lost_unsent(claim, crashes, PARK_AT, died=not replay.alive)
    return lost_unknown(claim, rules)
