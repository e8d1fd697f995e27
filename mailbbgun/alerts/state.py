"""Decides when an incident begins and ends: a pure function of the rule, the state, the figure and the time.

ok → pending → firing → resolving → ok. A figure is *beyond* from the threshold on, and *back* below the resolve
threshold. Between the two nothing begins and nothing ends (hysteresis). It must be beyond for some time before the
incident fires, and back for some time before it is resolved. If it goes beyond meanwhile, it is still the same
incident, so a figure that goes up and down makes one notice.

Time counts only between two looks, and at most :data:`MOST_BETWEEN_LOOKS` at once. So neither a clock that jumps nor
a night without workers makes a figure that was seen twice one that has lasted for hours.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

#: Seconds that count as observed between two looks, at most.
MOST_BETWEEN_LOOKS = 60.0


class IncidentState(StrEnum):
    """The state of an incident. One that is ok has no row, or has ended."""

    OK = "ok"
    PENDING = "pending"
    FIRING = "firing"
    RESOLVING = "resolving"  # it fires, and the figure is back, but not for long enough


class Change(StrEnum):
    """What people are told."""

    FIRED = "fired"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Condition:
    """What a rule says about its figure. Durations are seconds."""

    threshold: float
    resolve_threshold: float
    for_seconds: float = 0.0
    resolve_seconds: float = 0.0

    def beyond(self, value: float | None) -> bool:
        """Return whether a figure is beyond the threshold. None, no figure, is not."""
        return value is not None and value >= self.threshold

    def back(self, value: float | None) -> bool:
        """Return whether a figure is fine again."""
        return value is None or value < self.resolve_threshold


@dataclass(frozen=True, slots=True)
class RuleState:
    """The state of a rule for one subject, and what people know of it."""

    state: IncidentState = IncidentState.OK
    held: float = 0.0  # seconds for which the figure was seen beyond (pending) or back (resolving)
    seen_at: datetime | None = None  # the last look
    told: bool = False  # a notice says that it fires

    @property
    def fires(self) -> bool:
        """Whether it has fired and is not resolved."""
        return self.state in (IncidentState.FIRING, IncidentState.RESOLVING)


class Step(NamedTuple):
    """What a look leads to: the new state, the change for the log, and the notice."""

    standing: RuleState
    change: Change | None
    notice: Change | None


def step(
    condition: Condition, before: RuleState, value: float | None, now: datetime, *, silenced: bool = False
) -> Step:
    """Return what a look at the figure ``value`` at ``now`` leads to.

    ``silenced``: nobody is told that it fires now; if it still fires when the silence is over, they are. That it is
    resolved is told whenever it was told that it fires.
    """
    after = _moved(condition, before, value, _observed(before, now), now)
    change = None
    if after.fires and not before.fires:
        change = Change.FIRED
    elif before.fires and not after.fires:
        change = Change.RESOLVED
    if change is Change.RESOLVED:
        return Step(replace(after, told=False), change, Change.RESOLVED if before.told else None)
    if after.fires and not before.told and not silenced:
        return Step(replace(after, told=True), change, Change.FIRED)
    return Step(after, change, None)


def _observed(before: RuleState, now: datetime) -> float:
    """Return for how many seconds the state was observed since the last look."""
    if before.seen_at is None:
        return 0.0
    return min(max((now - before.seen_at).total_seconds(), 0.0), MOST_BETWEEN_LOOKS)


def _moved(condition: Condition, before: RuleState, value: float | None, observed: float, now: datetime) -> RuleState:
    seen = replace(before, seen_at=now)
    if before.fires:
        if not condition.back(value):
            return replace(seen, state=IncidentState.FIRING, held=0.0)
        held = before.held + observed if before.state is IncidentState.RESOLVING else 0.0
        ended = held >= condition.resolve_seconds
        return replace(seen, state=IncidentState.OK if ended else IncidentState.RESOLVING, held=0.0 if ended else held)
    if not condition.beyond(value):
        return replace(seen, state=IncidentState.OK, held=0.0)
    held = before.held + observed if before.state is IncidentState.PENDING else 0.0
    fires = held >= condition.for_seconds
    return replace(seen, state=IncidentState.FIRING if fires else IncidentState.PENDING, held=0.0 if fires else held)
