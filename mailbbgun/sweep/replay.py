"""Settles the claims of workers that are gone, by what the worker's journal says."""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from mailbbgun.core.errors import DatabaseUnavailable
from mailbbgun.core.faults import fault
from mailbbgun.database import leasing
from mailbbgun.database.db import Database
from mailbbgun.deliver.claim import Claim
from mailbbgun.deliver.context import policy
from mailbbgun.deliver.journal import FRESH, SUFFIX, Replay, locked, path_of, read
from mailbbgun.deliver.retry import Policy, judge, lost_unknown, lost_unsent
from mailbbgun.events.changes import record
from mailbbgun.events.changes.record import Result
from mailbbgun.messages.models import DELIVERIES, Delivery, Message
from mailbbgun.settings.settings import Settings
from mailbbgun.smtp.outcome import Bounced, Deferred, Outcome, Phase, TooMany, about_smtputf8, classify
from mailbbgun.smtp.server_limits import session_limit

#: Claims of a delivery that died with their worker, after which it is parked.
PARK_AT = 5

#: Claims settled in one transaction.
BATCH = 500

#: Leases for which a dead worker's journal stays. Its worker touched the file a quarter of a lease
#: before its death, or a little earlier. The rest is for a claim that was about to be committed.
KEPT_LEASES = 2

log = logging.getLogger("mailbbgun.sweep")


def replay_dead(db: Database, settings: Settings) -> int:
    """Replay every journal in the folder whose worker is dead; return how many claims were settled.

    A file is deleted when it is older than two leases. Raises :class:`DatabaseUnavailable`; what is
    not settled then stays in its file.
    """
    return sum(_replay(db, settings, path) for path in _journals(settings.journal_folder))


def _journals(folder: Path) -> Sequence[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == SUFFIX)
    except FileNotFoundError:
        return []
    except OSError as error:
        _tell_unreadable(folder, error)
        return []


def _tell_unreadable(path: Path, error: Exception) -> None:
    log.error("journal_unreadable", extra={"journal": path.name, "error": f"{type(error).__name__}: {error}"})


def replay_one(db: Database, settings: Settings, owner: UUID) -> int:
    """Replay the journal of a worker that is known to be dead.

    Without a journal its claims wait for the end of their lease.
    """
    return _replay(db, settings, path_of(settings.journal_folder, owner))


def settle_own(db: Database, settings: Settings, owner: UUID) -> int:
    """Settle the claims that a worker has without knowing it, when it has stopped in good order.

    See ``WorkerContext.close``. Returns how many there were. Raises :class:`DatabaseUnavailable`;
    another worker then finds the journal.
    """
    path = path_of(settings.journal_folder, owner)
    with locked(path) as ours:
        if not ours:
            return 0
        settled = _settle(db, settings, owner, lambda: read(path, alive=True), expired_only=False)
        path.unlink(missing_ok=True)
    return settled


def _replay(db: Database, settings: Settings, path: Path) -> int:
    try:
        with locked(path) as ours:
            if not ours:
                return 0
            owner = UUID(path.stem)
            settled = _settle(db, settings, owner, lambda: read(path, alive=False), expired_only=False)
            # Not sooner: as long as a lease lives, a commit of the dead worker may still arrive.
            if path.stat().st_mtime + KEPT_LEASES * settings.LEASE_SECONDS < time.time():
                path.unlink()
                path.with_suffix(FRESH).unlink(missing_ok=True)
    # The file is another user's or damaged, or its name is not ours. It must not keep other mail from going.
    except (OSError, ValueError, TypeError, KeyError) as error:
        _tell_unreadable(path, error)
        return 0
    return settled


class Expired:
    """Settles claims whose lease has run out: by the journal if it is here, else as unknown.

    A claim is settled only after its lease was seen expired for half a lease. After a failure of
    the database, or a change of its clock, every lease looks expired until its worker renews it.
    """

    def __init__(self, db: Database, settings: Settings) -> None:
        self._db = db
        self._settings = settings
        self._seen: dict[UUID, float] = {}  # worker → when its claims were first seen expired

    def settle(self) -> int:
        """Return how many claims were settled.

        Raises :class:`DatabaseUnavailable`; the watch then starts anew.
        """
        try:
            owners = self._owners()
            now = time.monotonic()
            self._seen = {owner: self._seen.get(owner, now) for owner in owners}
            patience = self._settings.LEASE_SECONDS / 2
            return sum(self._settle(owner) for owner, first in self._seen.items() if now - first >= patience)
        except DatabaseUnavailable:
            self._seen.clear()
            raise

    def _owners(self) -> list[UUID]:
        with self._db.read() as session:
            return leasing.expired_owners(session, DELIVERIES)

    def _settle(self, owner: UUID) -> int:
        path = path_of(self._settings.journal_folder, owner)
        return _settle(self._db, self._settings, owner, lambda: _read_any(path), expired_only=True)


def _read_any(path: Path) -> Replay | None:
    try:
        with locked(path) as dead:
            return read(path, alive=not dead)
    except PermissionError as error:  # another user's; without it the outcomes are unknown, and the timeline says so
        _tell_unreadable(path, error)
        return None


def _settle(
    db: Database, settings: Settings, owner: UUID, journal: Callable[[], Replay | None], *, expired_only: bool
) -> int:
    """Settle the claims of a worker.

    The journal is read after the rows are locked, because the worker may write lines until then.
    """
    total = 0
    rules = policy(settings)
    while True:
        with db.write() as session:
            claims = _claims_of(session, owner, expired_only)
            replay = journal() if claims else None
            # hinted=0: no delay queue gets a hint here; a worker's tick hints these once due.
            results = [_result(one, crashes, replay, rules)._replace(hinted=0) for one, crashes in claims]
            total += len(record.write_results(session, owner, results))
            if results:
                fault("replay.commit")
        if results:
            fault("replay.committed")
        if len(claims) < BATCH:
            break
    if total:
        log.warning("claims_recovered", extra={"worker": owner, "claims": total})
    return total


def _claims_of(session: Session, owner: UUID, expired_only: bool) -> Sequence[tuple[Claim, int]]:
    whose = (Delivery.id.label("delivery_id"), Delivery.message_id, Delivery.tenant_id, Delivery.address)
    numbers = (Delivery.attempt.label("claim_number"), Delivery.tries.label("schedule_step"))
    counters = (*numbers, Delivery.unknowns, Delivery.crashes)
    key = select(Message.key_id).where(Message.id == Delivery.message_id).scalar_subquery().label("key_id")
    leased = leasing.held_by(DELIVERIES, owner, expired_only=expired_only)
    statement = select(*whose, Delivery.lane, *counters, key).where(*leased).order_by(Delivery.id).limit(BATCH)
    # A dead worker's connection may still lock rows: wait, since it may still commit.
    statement = statement.with_for_update(skip_locked=expired_only)
    rows = session.execute(statement).mappings()
    return [
        (Claim(**{name: value for name, value in row.items() if name != "crashes"}, lease_ends=0.0), row["crashes"])
        for row in rows
    ]


def _result(claim: Claim, crashes: int, replay: Replay | None, rules: Policy) -> Result:
    if replay is not None and claim.key in replay.answers:
        reply = replay.answers[claim.key]
        if reply is None:
            return lost_unknown(claim, rules)
        outcome = classify(Phase.DOT, reply)
        if isinstance(outcome, TooMany) or _may_go_again_at_once(outcome):
            return lost_unsent(claim, crashes, PARK_AT, died=replay.died, refusal=reply)
        return judge(outcome, claim, rules)
    if replay is not None and replay.same_boot:
        return lost_unsent(claim, crashes, PARK_AT, died=replay.died)
    return lost_unknown(claim, rules)


def _may_go_again_at_once(outcome: Outcome) -> bool:
    """Return whether the worker may have been about to send again in the same attempt.

    After a refusal of the dot it sends again over a fresh connection if a session limit was reached
    on a connection that had carried mail, and without SMTPUTF8 after 5.6.7 and 5.6.9 if the message
    was sent with it. The journal tells neither. One try too many does no harm, but a wrong bounce
    loses the mail. A 421 after the dot ends the attempt.
    """
    if not isinstance(outcome, Bounced | Deferred) or outcome.reply.code == 421:
        return False
    return session_limit(outcome.reply) or (isinstance(outcome, Bounced) and about_smtputf8(outcome.reply))
