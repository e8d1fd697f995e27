"""Turns the outcome of an attempt into the result of its claim, by schedule and policy. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Self

from mailbbgun.bounces.classify import Classifier, in_reply_to
from mailbbgun.deliver.claim import Claim
from mailbbgun.events.changes.record import Result
from mailbbgun.events.kinds import Kind, Reason
from mailbbgun.messages.status import DELIVERED, ERROR, PENDING
from mailbbgun.relays import simulator
from mailbbgun.relays.slack.answers import posted
from mailbbgun.smtp.outcome import Bounced, Deferred, Delivered, Fenced, Outcome, Phase, Refused, Unknown
from mailbbgun.smtp.reply import Reply

#: Attempts after one whose outcome nobody knows. So a recipient gets at most three copies.
UNKNOWN_RETRIES = 2

#: More for the event: nothing.
NOTHING: Mapping[str, Any] = MappingProxyType({})

#: Seconds before a retry, at least, if it must come before the end of the message's usefulness.
SHORTEST_WAIT = 5.0

#: A retry's delay is up to this part shorter or longer.
JITTER = 0.1


_BUILT_IN = Classifier()

#: What a reply answers, in the words of bounces.
_COMMANDS = {Phase.MAIL: "MAIL FROM", Phase.RCPT: "RCPT TO", Phase.DOT: "end of DATA"}


@dataclass(frozen=True, slots=True)
class Policy:
    """What decides besides the outcome.

    ``delays`` is RETRY_DELAYS, in seconds. With ``hold_unknown`` a delivery whose outcome nobody
    knows is not tried again. ``random`` returns 0…1. ``refused_pause`` is for how many seconds a
    server that refuses us is not asked. ``classifier`` names the causes of replies.
    """

    delays: Sequence[int]
    hold_unknown: bool
    random: Callable[[], float]
    refused_pause: int = 60
    classifier: Classifier = _BUILT_IN

    def for_all(self) -> Self:
        """Return the policy for recipients that were sent to together: with one random number for all.

        They are then due together again, and share a hint and a transaction.
        """
        drawn = self.random()
        return replace(self, random=lambda: drawn)


def judge(
    outcome: Outcome, claim: Claim, policy: Policy, told: Mapping[str, Any] = NOTHING, *, left: float | None = None
) -> Result:
    """Return the result of one claim. Its event shows what is ``told`` as well.

    ``left``: for how many more seconds the message is useful; None: without a limit. A retry is
    planned within them.
    Raises TypeError for an outcome that is no end of an attempt, such as Fenced.
    """
    if isinstance(outcome, Fenced):
        raise TypeError(f"{outcome!r} is no end of a try")
    reply, data = outcome.reply, _event_data(outcome, told) | _cause(outcome, policy.classifier)
    match outcome:
        case Delivered(effect=effect):
            # Only test keys may write to such addresses, so the address alone decides, here and
            # when a journal is replayed.
            complained = simulator.complains(claim.address)
            if where := posted(reply.text):  # in Slack: a later message may go in its thread
                data |= {"channel": where.channel, "ts": where.ts}
            more: dict[str, Any] = {"complained": complained, "effect": effect, "data": data}
            if effect is not None and effect.gate is not None:
                more["otherwise"] = judge(effect.gate.refusal, claim, policy, told, left=left)
            return _result(claim, Kind.DELIVERED, DELIVERED, reply, counted=True, **more)
        case Bounced():
            return _result(claim, Kind.BOUNCED, ERROR, reply, reason=Reason.BOUNCED, counted=True, data=data)
        case Refused(phase=phase):
            # Perhaps the refusal is about this recipient. The others, who wait for the end of the
            # pause, must be tried before it.
            behind = policy.delays[0] if phase is Phase.RCPT and policy.delays else 0
            wait = policy.refused_pause + behind if left is None else min(policy.refused_pause + behind, max(left, 0.0))
            return _result(claim, Kind.REFUSED, PENDING, reply, wait=wait, data=data)
        case Unknown():
            return _unknown(claim, policy, reply, data, left)
        case Deferred(after=after):
            return _retry(claim, policy, Kind.DEFERRED, reply, data, after=after, left=left)


def released(
    claim: Claim, wait: float, why: str | None = None, account: str | None = None, *, attempted: bool = False
) -> Result:
    """Return the result of a claim that is given back unsent, due again in ``wait`` seconds.

    Its schedule step stays. ``why`` is shown in an event, but only at claims 1, 2, 4, 8 …: a
    delivery that is claimed again and again for a day has a dozen. ``attempted`` says whether a
    server was asked before.
    """
    claim_ids = (claim.delivery_id, claim.message_id, claim.tenant_id, claim.claim_number)
    if why is None or claim.claim_number & (claim.claim_number - 1):
        return Result(*claim_ids, None, PENDING, wait=wait, released=True, attempted=attempted, key_id=claim.key_id)
    more: dict[str, Any] = {"attempted": attempted, "reply": why, "data": {"account": account}, "key_id": claim.key_id}
    return Result(*claim_ids, Kind.WAITING, PENDING, wait=wait, released=True, **more)


def too_late(claim: Claim) -> Result:
    """Return the result of a claim whose message is useful no more. Nothing was sent."""
    reply = Reply(0, None, "useful_until has passed: it was not sent")
    return _result(claim, Kind.EXPIRED, ERROR, reply, reason=Reason.EXPIRED, attempted=False)


def stopped(claim: Claim) -> Result:
    """Return the result of a claim whose recipient is suppressed. Nothing was sent."""
    reply = Reply(0, None, "the recipient is on the suppression list: it was not sent")
    return _result(claim, Kind.SUPPRESSED, ERROR, reply, reason=Reason.SUPPRESSED, attempted=False)


def lost_unknown(claim: Claim, policy: Policy) -> Result:
    """Return the result of a claim of which nobody knows whether it was sent.

    Its worker died between the dot and the reply, or its journal is gone.
    """
    return _unknown(claim, policy, Reply(0, None, "the worker was lost; the message may have arrived"), {})


def lost_unsent(claim: Claim, crashes: int, park_at: int, *, died: bool, refusal: Reply | None = None) -> Result:
    """Return the result of a claim whose worker was lost before the dot.

    The delivery is tried again, or parked once ``park_at`` workers died with it in hand;
    ``crashes`` is their number before. ``died`` is False if the worker was only suspended beyond
    its lease, or stopped in good order while the database was away. ``refusal`` is a server's reply
    to an earlier dot, after which the worker would have sent again; the attempt then counts.
    """
    asked = refusal is not None
    if died and crashes + 1 >= park_at:
        reply = Reply(0, None, f"{crashes + 1} workers died with this message in hand")
        return _result(claim, Kind.PARKED, ERROR, reply, reason=Reason.PARKED, crashed=True, attempted=asked)
    how = "died" if died else "stopped, or was paused beyond its lease,"
    what = f"it sent again after: {refusal}" if refusal else "anything was sent"
    reply = Reply(0, None, f"the worker {how} before {what}")
    return _result(claim, Kind.WORKER_LOST, PENDING, reply, crashed=died, attempted=asked)


def unwritable(claim: Claim, result: Result) -> Result | None:
    """Return what is written in place of a result that the database refuses; None: nothing can be.

    What the delivery was to change here is not done, so the delivery is parked. Any other delivery
    ends as it did, without the words of others.
    """
    if result.effect is not None:
        reply = Reply(0, None, "what it changes here cannot be stored; the log of the worker says why")
        return _result(claim, Kind.PARKED, ERROR, reply, reason=Reason.PARKED)
    return result._replace(reply=None, data=None) if result.reply or result.data else None


def _event_data(outcome: Delivered | Deferred | Bounced | Unknown | Refused, told: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the event shows besides the reply. Events leave out what is None."""
    phase, server = None if isinstance(outcome, Delivered) else outcome.phase, outcome.server
    return {"phase": phase and phase.value, "host": server and server.host, "ip": server and server.ip, **told}


def _cause(outcome: Outcome, classifier: Classifier) -> dict[str, str]:
    """Return what the event says of a refusal's cause."""
    if not isinstance(outcome, Bounced | Deferred):
        return {}
    reply, command = outcome.reply, _COMMANDS.get(outcome.phase)
    text = in_reply_to(reply.text, command) if command and reply.code else reply.text
    cause = classifier.classify(reply.code or None, reply.enhanced, text)
    return {"cause": cause.reason, "class": cause.class_.value}


def _unknown(claim: Claim, policy: Policy, reply: Reply, data: dict[str, Any], left: float | None = None) -> Result:
    if policy.hold_unknown or claim.unknowns >= UNKNOWN_RETRIES:
        return _result(
            claim,
            Kind.OUTCOME_UNKNOWN,
            ERROR,
            reply,
            reason=Reason.OUTCOME_UNKNOWN,
            counted=True,
            unknown=True,
            data=data,
        )
    return _retry(claim, policy, Kind.OUTCOME_UNKNOWN, reply, data, unknown=True, left=left)


def _retry(
    claim: Claim,
    policy: Policy,
    kind: Kind,
    reply: Reply,
    data: dict[str, Any],
    *,
    after: float | None = None,
    unknown: bool = False,
    left: float | None = None,
) -> Result:
    wait, hinted = _wait(claim, policy, after, left)
    if wait is None:
        kind, reason = (Kind.OUTCOME_UNKNOWN, Reason.OUTCOME_UNKNOWN) if unknown else (Kind.EXPIRED, Reason.EXPIRED)
        return _result(claim, kind, ERROR, reply, reason=reason, counted=True, unknown=unknown, data=data)
    return _result(claim, kind, PENDING, reply, wait=wait, hinted=hinted, counted=True, unknown=unknown, data=data)


def _wait(claim: Claim, policy: Policy, after: float | None, left: float | None) -> tuple[float | None, int]:
    """Return the seconds until the next attempt, and the delay queue for its hint (0: none).

    None if there is no further attempt. ``after``: seconds that the server named. ``left``: seconds
    for which the message is useful.
    """
    if claim.schedule_step >= len(policy.delays):
        return None, 0
    if after is not None:
        # No delay queue has that delay, so the tick hints the delivery.
        return (after, 0) if left is None or after < left else (None, 0)
    delay = policy.delays[claim.schedule_step]
    wait = delay * (1 - JITTER + 2 * JITTER * policy.random())
    if left is None or wait < left:
        return wait, delay
    # The next attempt would come too late. One halfway to the end is better than none.
    return (left / 2, 0) if left / 2 >= SHORTEST_WAIT else (None, 0)


def _result(claim: Claim, kind: Kind, status: str, reply: Reply, *, attempted: bool = True, **more: Any) -> Result:
    data = more.pop("data", {})
    if reply.enhanced:
        data = data | {"enhanced": reply.enhanced}
    claim_ids = (claim.delivery_id, claim.message_id, claim.tenant_id, claim.claim_number)
    more |= {"code": reply.code or None, "reply": reply.text, "data": data, "key_id": claim.key_id}
    return Result(*claim_ids, kind, status, attempted=attempted, **more)
