"""How a try's outcome becomes a delivery's result: the schedule, the policy for what nobody knows, the ends. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mailbbgun.deliver.claim import Claim
from mailbbgun.events.kinds import Kind, Reason
from mailbbgun.events.record import Result
from mailbbgun.messages import simulator
from mailbbgun.messages.status import DELIVERED, ERROR, PENDING
from mailbbgun.smtp.outcome import AnsweringServer, Bounced, Deferred, Delivered, Outcome, Phase, Refused, Unknown
from mailbbgun.smtp.reply import Reply

UNKNOWN_RETRIES = 2  # so a recipient gets three copies at the most
JITTER = 0.1


@dataclass(frozen=True, slots=True)
class Policy:
    """What decides besides the outcome itself. ``random`` returns 0…1; ``refused_pause`` is how long a server that refuses us is left alone."""

    delays: Sequence[int]
    hold_unknown: bool
    random: Callable[[], float]
    refused_pause: int = 60


def judge(outcome: Outcome, claim: Claim, policy: Policy) -> Result:
    """Return the result of one claim. Fenced claims and split batches have none and do not come here."""
    match outcome:
        case Delivered(reply, server):
            # Only test keys write to such addresses, so the address alone tells, here and when a journal is replayed.
            complained = simulator.complains(claim.address)
            return _result(
                claim, Kind.DELIVERED, DELIVERED, reply, counted=True, complained=complained, data=_event_data(server)
            )
        case Bounced(reply, phase, server):
            return _result(
                claim, Kind.BOUNCED, ERROR, reply, reason=Reason.BOUNCED, counted=True, data=_event_data(server, phase)
            )
        case Refused(reply, phase, server):
            # Perhaps it is about this recipient: the others, who wait for the pause, are to be asked for first.
            behind = policy.delays[0] if phase is Phase.RCPT and policy.delays else 0
            return _result(
                claim, Kind.REFUSED, PENDING, reply, wait=policy.refused_pause + behind, data=_event_data(server, phase)
            )
        case Unknown(reply, phase, server):
            return _unknown(claim, policy, reply, _event_data(server, phase))
        case Deferred(reply, phase, after, server):
            return _retry(claim, policy, Kind.DEFERRED, reply, _event_data(server, phase), after=after)
    raise TypeError(f"{outcome!r} is no end of a try")


def released(
    claim: Claim, wait: float, why: str | None = None, account: str | None = None, *, attempted: bool = False
) -> Result:
    """The result of a claim given back with nothing sent, due again in ``wait`` seconds, at the same place in RETRY_DELAYS.

    ``why`` is told in an event, but not each time: of what is claimed again and again for a day there are a dozen. ``attempted``: before it was
    given back, a server was asked that could not be talked to.
    """
    ids = (claim.delivery_id, claim.message_id, claim.tenant_id, claim.claim_number)
    if why is None or claim.claim_number & (claim.claim_number - 1):
        return Result(*ids, None, PENDING, wait=wait, released=True, attempted=attempted, key_id=claim.key_id)
    more: dict[str, Any] = {"attempted": attempted, "reply": why, "data": {"account": account}, "key_id": claim.key_id}
    return Result(*ids, Kind.WAITING, PENDING, wait=wait, released=True, **more)


def lost_unknown(claim: Claim, policy: Policy) -> Result:
    """The result of a claim ids worker died between the dot and the answer, or ids journal is gone."""
    return _unknown(claim, policy, Reply(0, None, "the worker was lost; the message may have arrived"), {})


def lost_unsent(claim: Claim, crashes: int, park_at: int, *, died: bool, refusal: Reply | None = None) -> Result:
    """The result of a claim ids worker was lost before the dot: free to go again, or parked when it killed too many workers.

    ``refusal``: a server's reply to an earlier dot of this attempt, after which the worker would have sent again; then the attempt counts.
    """
    asked = refusal is not None
    if died and crashes + 1 >= park_at:
        reply = Reply(0, None, f"{crashes + 1} workers died with this message in hand")
        return _result(claim, Kind.PARKED, ERROR, reply, reason=Reason.PARKED, crashed=True, attempted=asked)
    how = "died" if died else "was paused beyond its lease"
    what = f"it sent again after: {refusal}" if refusal else "anything was sent"
    reply = Reply(0, None, f"the worker {how} before {what}")
    return _result(claim, Kind.WORKER_LOST, PENDING, reply, crashed=died, attempted=asked)


def _event_data(server: AnsweringServer | None, phase: Phase | None = None) -> dict[str, Any]:
    """Return what the event tells besides the reply; what it does not know is left out there."""
    return {"phase": phase and phase.value, "host": server and server.host, "ip": server and server.ip}


def _unknown(claim: Claim, policy: Policy, reply: Reply, data: dict[str, Any]) -> Result:
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
    return _retry(claim, policy, Kind.OUTCOME_UNKNOWN, reply, data, unknown=True)


def _retry(
    claim: Claim,
    policy: Policy,
    kind: Kind,
    reply: Reply,
    data: dict[str, Any],
    *,
    after: float | None = None,
    unknown: bool = False,
) -> Result:
    if claim.schedule_step >= len(policy.delays):
        kind, reason = (Kind.OUTCOME_UNKNOWN, Reason.OUTCOME_UNKNOWN) if unknown else (Kind.EXPIRED, Reason.EXPIRED)
        return _result(claim, kind, ERROR, reply, reason=reason, counted=True, unknown=unknown, data=data)
    delay = policy.delays[claim.schedule_step]
    if after is not None:  # the server's own words; no delay queue has this wait, so the tick will hint it
        return _result(claim, kind, PENDING, reply, wait=after, counted=True, unknown=unknown, data=data)
    wait = delay * (1 - JITTER + 2 * JITTER * policy.random())
    return _result(claim, kind, PENDING, reply, wait=wait, hinted=delay, counted=True, unknown=unknown, data=data)


def _result(claim: Claim, kind: Kind, status: str, reply: Reply, *, attempted: bool = True, **more: Any) -> Result:
    data = more.pop("data", {})
    if reply.enhanced:
        data = data | {"enhanced": reply.enhanced}
    ids = (claim.delivery_id, claim.message_id, claim.tenant_id, claim.claim_number)
    more |= {"code": reply.code or None, "reply": reply.text, "data": data, "key_id": claim.key_id}
    return Result(*ids, kind, status, attempted=attempted, **more)
