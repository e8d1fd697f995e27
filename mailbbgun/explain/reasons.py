"""Says in words why a delivery is where it is. Pure: facts in, sentences out."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from mailbbgun.core.clock import rfc3339
from mailbbgun.deliver.claim import ISOLATED_FROM
from mailbbgun.explain.facts import ACCOUNTS, CATCHER, LOCAL, MX, POST, SLACK, DeliveryFacts
from mailbbgun.explain.replies import means
from mailbbgun.messages.status import CANCELLED, DELIVERED, PENDING, Reason


class Code(StrEnum):
    """Why a delivery is where it is. Ended deliveries have their status or their reason."""

    DELIVERED = "delivered"
    CANCELLED = "cancelled"
    #: A worker has claimed it: it is being sent.
    BEING_SENT = "being_sent"
    #: The worker that claimed it has not reported for long.
    WORKER_LOST = "worker_lost"
    #: Its tenant is suspended.
    TENANT_SUSPENDED = "tenant_suspended"
    #: A client named a time.
    SCHEDULED = "scheduled"
    #: No worker is running.
    NO_WORKERS = "no_workers"
    #: No enabled account fits its sender and recipient.
    NO_ACCOUNT = "no_account"
    #: The password of each account that fits cannot be decrypted.
    PASSWORD_UNREADABLE = "password_unreadable"
    #: Each account that fits is paused: its server refused us, or could not be talked to.
    ACCOUNT_PAUSED = "account_paused"
    #: Each account that fits has sent what it may today.
    ACCOUNT_LIMIT = "account_limit"
    #: A temporary failure: it is tried again.
    WAITING_FOR_RETRY = "waiting_for_retry"
    #: The server refused us.
    REFUSED = "refused"
    #: It was given back without an attempt.
    WAITING = "waiting"
    #: It killed workers, so it is sent by a process of its own.
    SENT_ALONE = "sent_alone"
    #: It is due, and no hint about it is on the queue yet.
    HINT_MISSING = "hint_missing"
    #: It is due, and its hint waits on the queue.
    QUEUED = "queued"


@dataclass(frozen=True, slots=True)
class Because:
    """One cause: a code, a sentence, what comes next, and when."""

    code: str
    text: str
    next: str
    next_at: datetime | None = None


_NOBODY = "Nothing: it has ended."
_RETRY = "POST /messages/{id}/retry sends it again."
_ENDED = {
    Reason.BOUNCED: (
        "The receiving server refused it for good{because}: {reply}",
        "{advice} Once the cause is gone, " + _RETRY,
    ),
    Reason.EXPIRED: ("Its last try failed, or the time until which it was useful has passed: {reply}", _RETRY),
    Reason.OUTCOME_UNKNOWN: (
        "It was sent, and the server's reply was lost, so it may have arrived or not: {reply}",
        "Ask the recipient. " + _RETRY + " It may then arrive twice.",
    ),
    Reason.PARKED: ("Workers died while they had it in hand: {reply}", "Look for the cause in the log; then " + _RETRY),
    Reason.ATTACHMENT_DAMAGED: ("A file of it is not what was stored: {reply}", "Send it anew with the right file."),
    Reason.SUPPRESSED: (
        "The recipient is on the suppression list, so nothing was sent.",
        "Remove it there, by DELETE /suppressions/{id}; then " + _RETRY,
    ),
    Reason.DUPLICATE: ("It is a duplicate of the message {duplicate}, and the API key holds these.", _RETRY),
}


_REFUSED_HERE = (
    "It was refused here, by the mailboxes of this server{because}: {reply}",
    "GET /mailboxes lists the mailboxes. Once the cause is gone, " + _RETRY,
)


def explained(facts: DeliveryFacts) -> list[Because]:
    """Return why a delivery is where it is: the cause that counts first, then others that will hold it up, too."""
    if facts.status != PENDING:
        return [_ended(facts)]
    return list(_pending(facts))


def _ended(facts: DeliveryFacts) -> Because:
    at = f" at {rfc3339(facts.finished_at)}" if facts.finished_at else ""
    if facts.status == DELIVERED:
        return Because(Code.DELIVERED.value, *_delivered(facts, at))
    if facts.status == CANCELLED:
        return Because(Code.CANCELLED.value, f"Somebody cancelled it{at}.", _NOBODY)
    reason = Reason(facts.reason or Reason.EXPIRED.value)
    text, after = _REFUSED_HERE if reason is Reason.BOUNCED and facts.way.kind == LOCAL else _ENDED[reason]
    because, advice = means(facts.cause)
    reply = facts.reply or "nothing more is known"
    said = text.format(reply=reply, duplicate=facts.duplicate_of or "before", because=because)
    return Because(reason.value, said, after.replace("{advice}", advice or "Read the reply."))


def _delivered(facts: DeliveryFacts, at: str) -> tuple[str, str]:
    """Return who or what has the mail now, and what comes next."""
    if (kept := facts.kept) is not None:
        text = f"It is in the mailbox {kept.address}, in the folder {kept.folder}, since {rfc3339(kept.since)}."
        return text, f"GET /mailboxes/{kept.address}/messages/{kept.id} shows it."
    if facts.way.kind == LOCAL:
        text = f"It was delivered on this server{at}: {facts.reply or 'nothing more is known'}"
        return text, "Nothing: the reply says what was done with it. If it was in a mailbox of yours, it was deleted."
    if facts.way.kind == POST:
        text = f"Your application took it{at}: {facts.reply or 'it said nothing more'}"
        return text, "Nothing: your application is responsible for it now."
    text = f"The next server took it{at}: {facts.reply or 'it said nothing more'}"
    return text, "Nothing: that server is responsible for it now."


def _pending(facts: DeliveryFacts) -> Iterator[Because]:
    if facts.lease_until is not None:
        yield _claimed(facts)
        return
    if facts.suspended or facts.next_attempt_at is None:
        yield Because(
            Code.TENANT_SUSPENDED.value,
            "Its tenant is suspended, so it is held.",
            "It goes on within seconds once the tenant is active again.",
        )
        if facts.next_attempt_at is None:
            return
    waits = [*_waiting(facts)]
    closed = [*_closed(facts)]
    # A closed way explains a wait better than the wait itself; not so a time that a client named.
    first = waits if waits and waits[0].code == Code.SCHEDULED else closed
    yield from first
    yield from closed if first is waits else waits
    if facts.workers_alive == 0:
        yield Because(
            Code.NO_WORKERS.value,
            "No worker is running, or none has reported for half a minute, so nothing is sent.",
            "Start worker.py; it then goes on by itself.",
        )
    if facts.due and not first:
        yield from _due(facts)


def _claimed(facts: DeliveryFacts) -> Because:
    who, until = facts.worker or "a worker that is gone", rfc3339(facts.lease_until) if facts.lease_until else ""
    if facts.worker_alive and facts.lease_until is not None and facts.lease_until > facts.now:
        text = f"The worker on {who} has it in hand: it is being sent, or waits for a connection."
        text += f" Its claim holds until {until}, and is renewed until then."
        return Because(Code.BEING_SENT.value, text, "The server's answer decides.")
    text = f"The worker on {who} had it in hand, and has not reported since; its claim held until {until}."
    after = "Another worker finds out from the journal what was sent, and goes on."
    return Because(Code.WORKER_LOST.value, text, after, facts.lease_until)


def _closed(facts: DeliveryFacts) -> Iterator[Because]:
    """Yield why no account takes it now."""
    way = facts.way
    if way.kind != ACCOUNTS or way.best is not None:
        return
    if not way.accounts:
        text = f"No SMTP account that is enabled takes mail from this sender to {facts.address}."
        yield Because(
            Code.NO_ACCOUNT.value, text, "Enable or add one. It is tried again by itself.", facts.next_attempt_at
        )
    for one in way.accounts:
        if not one.readable:
            text = f"The password of account {one.name} cannot be decrypted."
            yield Because(Code.PASSWORD_UNREADABLE.value, text, "Enter it anew, or put the old ENCRYPTION_KEYS back.")
        elif one.since is not None:
            text = f"Account {one.name} is paused since {rfc3339(one.since)} because the server said: {one.reply}"
            yield Because(Code.ACCOUNT_PAUSED.value, text, _next(facts), facts.next_attempt_at)
        else:
            text = f"Account {one.name} has sent {one.used_today} of {one.max_per_day} mails today (UTC)."
            midnight = facts.now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
            yield Because(Code.ACCOUNT_LIMIT.value, text, f"It goes on at {rfc3339(midnight)}.", midnight)


def _waiting(facts: DeliveryFacts) -> Iterator[Because]:
    """Yield why it is not due yet."""
    if facts.due or facts.next_attempt_at is None:
        return
    if facts.scheduled and not facts.attempts and facts.last is None:
        text = f"It is scheduled: a client wants it to be sent at {rfc3339(facts.next_attempt_at)}."
        after = "PATCH /messages/{id} changes the time."
        yield Because(Code.SCHEDULED.value, text, after, facts.next_attempt_at)
        return
    kind = facts.last.kind if facts.last else ""
    through = f"account {facts.last.account} " if facts.last and facts.last.account else ""
    said = (facts.last and facts.last.reply) or facts.reply or "nothing"
    if kind == "refused":
        text = f"The server of {through or 'the route '}refuses us: {said}"
        yield Because(Code.REFUSED.value, text, _next(facts), facts.next_attempt_at)
    elif kind == "waiting":
        yield Because(Code.WAITING.value, f"No server was asked: {through}{said}", _next(facts), facts.next_attempt_at)
    else:
        times = f"{facts.attempts} attempt{'' if facts.attempts == 1 else 's'}"
        text = f"After {times} it waits for the next one{means(facts.cause)[0]}. The last reply was: {said}"
        yield Because(Code.WAITING_FOR_RETRY.value, text, _next(facts), facts.next_attempt_at)


def _due(facts: DeliveryFacts) -> Iterator[Because]:
    """Yield where one is that is due and that nothing holds up."""
    if facts.crashes >= ISOLATED_FROM:
        text = f"{facts.crashes} workers died with it in hand, so a process of its own sends it."
        yield Because(Code.SENT_ALONE.value, text, "A worker starts that process when it has sent its other mail.")
    elif facts.published_at is None:
        text = "It is due, and no hint about it is on the queue yet."
        yield Because(Code.HINT_MISSING.value, text, "A worker puts one there within seconds, once the queue takes it.")
    else:
        text = f"It is due, and its hint is on the queue since {rfc3339(facts.published_at)}."
        yield Because(Code.QUEUED.value, text, "A worker takes it as soon as mail before it has left.")


def _next(facts: DeliveryFacts) -> str:
    """Return when it is tried next, and by which way."""
    at = rfc3339(facts.next_attempt_at) if facts.next_attempt_at else "once it is due"
    if facts.way.kind == CATCHER:
        way = "to the mail catcher"
    elif facts.way.kind == SLACK:
        way = "through its Slack account"
    elif facts.way.kind == LOCAL:
        way = "to a mailbox here"
    elif facts.way.kind == POST:
        way = "to the URL of its inbound route"
    elif facts.way.kind == MX:
        way = f"to the MX of {facts.address.rpartition('@')[2]}"
    elif facts.way.kind == ACCOUNTS:
        best = facts.way.best
        way = f"through account {best.name}" if best else "if an account may be used then"
    else:
        way = "through the server of SMTP_URL"
    too_late = ""
    if facts.useful_until and facts.next_attempt_at and facts.next_attempt_at >= facts.useful_until:
        too_late = f" It is useful until {rfc3339(facts.useful_until)} only, so it then ends as expired."
    return f"Next try {'now' if facts.due else f'at {at}'} {way}.{too_late}"
