"""Shapes of questions about statistics, and of the answers."""

from collections.abc import Mapping
from typing import Any

from marshmallow import Schema, fields, validate

from mailbbgun.core.clock import rfc3339
from mailbbgun.http.schemas import Count, Time
from mailbbgun.messages.schemas import LONGEST_TAG, Choice, Domain
from mailbbgun.messages.status import CANCELLED, DELIVERED, ERROR
from mailbbgun.statistics.counting import SECONDS
from mailbbgun.statistics.figures import COUNTS, GROUPS, PERCENTILES

#: Days that one question may be about.
MOST_DAYS = 3660


class StatisticsQuery(Schema):
    """Which figures are asked for."""

    days = Count(
        load_default=None,
        validate=validate.Range(1, MOST_DAYS),
        metadata={"description": "So many days, the last of which is today (UTC). 30 if from is not given either."},
    )
    begin = Time(
        load_default=None,
        data_key="from",
        metadata={
            "description": "From the interval of this moment on. A date is its midnight, in UTC.",
            "example": "2026-01-01",
        },
    )
    end = Time(
        load_default=None,
        data_key="to",
        metadata={"description": "Before this moment; until now if not given.", "example": "2026-02-01"},
    )
    interval = Choice(
        load_default=None,
        validate=validate.OneOf(list(SECONDS)),
        metadata={"description": "Length of the intervals. By default it fits the period."},
    )
    group_by = Choice(
        load_default=None,
        validate=validate.OneOf(GROUPS),
        metadata={"description": "Also show the sums of the period by this."},
    )
    tag = fields.String(
        load_default=None,
        validate=validate.Length(1, LONGEST_TAG),
        metadata={"description": "Only mail with this tag.", "example": "invoice"},
    )
    domain = Domain(
        load_default=None,
        validate=validate.Length(1, 253),
        metadata={"description": "Only recipients of this domain.", "example": "example.com"},
    )
    account = fields.String(
        load_default=None,
        validate=validate.Length(1, 200),
        metadata={"description": "Only attempts through the SMTP account of this name.", "example": "main"},
    )
    test = fields.Boolean(
        load_default=False,
        metadata={"description": "Mail of test keys instead of all other mail. A test key sees only that."},
    )


class AskedAs(StatisticsQuery):
    """Which figures are asked for, and in which form."""

    format = Choice(
        load_default=None,
        validate=validate.OneOf(["json", "csv"]),
        metadata={"description": "Form of the answer. By default the header Accept decides."},
    )


def _rate() -> fields.Float:
    return fields.Float(allow_none=True)


class StatisticsRates(Schema):
    """Parts of the accepted recipients, 0 to 1; null if none was accepted.

    By account they are parts of the deliveries that ended there.
    """

    delivered = _rate()
    failed = _rate()
    deferred = fields.Float(allow_none=True, metadata={"description": "May be above 1: each deferral counts."})


TimeToDeliver = Schema.from_dict(
    {
        name: fields.Float(
            allow_none=True,
            metadata={"description": "Seconds, within 9 %. null if nothing was delivered.", "example": 0.84},
        )
        for name in PERCENTILES
    },
    name="TimeToDeliver",
)

_MEANINGS = {
    "messages": "Messages that were accepted.",
    "accepted": "Recipients of these messages.",
    "delivered": "Deliveries that the next server took.",
    "failed": "Deliveries that ended as ERROR.",
    "deferred": "Attempts that failed for the time being.",
    "cancelled": "Deliveries that were cancelled.",
    "complained": "Recipients who reported a message as spam.",
    "unsubscribed": "Recipients who unsubscribed by a link.",
    "opened": "Openings, where tracking is on.",
    "clicked": "Clicks on links, where tracking is on.",
}


class Sums(Schema):
    """Counts with rates and percentiles."""

    messages, accepted, delivered, failed, deferred, cancelled, complained, unsubscribed, opened, clicked = (
        fields.Integer(metadata={"description": _MEANINGS[name]}) for name in COUNTS
    )
    reasons = fields.Dict(
        fields.String(),
        fields.Integer(),
        metadata={"description": "How many deliveries failed for each reason.", "example": {"bounced": 2}},
    )
    rates = fields.Nested(StatisticsRates)
    time_to_deliver = fields.Nested(
        TimeToDeliver,
        metadata={"description": "From when the first attempt was due until the delivery, of what was delivered."},
    )


class Point(Sums):
    """The figures of one interval."""

    at = Time(metadata={"description": "When the interval begins."})


class StatisticsGroup(Sums):
    """The figures of one tag, domain or account; or, by status, how many deliveries ended so."""

    name = fields.String(
        metadata={"description": f"The label; by status {DELIVERED}, {ERROR} or {CANCELLED}.", "example": "invoice"}
    )
    rest = fields.Boolean(metadata={"description": "Whether these are all labels beyond STATISTICS_LABELS."})
    reason = fields.String(allow_none=True, metadata={"description": "By status: why the deliveries failed."})
    deliveries = fields.Integer(metadata={"description": "By status: how many deliveries ended so."})
    rate = fields.Float(allow_none=True, metadata={"description": "By status: the part of all that ended."})


class QueueState(Schema):
    """What waits now."""

    pending = fields.Integer(metadata={"description": "Messages that are PENDING."})
    oldest_accepted_at = Time(allow_none=True, metadata={"description": "When the oldest of them was accepted."})


class FiguresShape(Schema):
    """Figures of a period."""

    begin = Time(data_key="from")
    end = Time(data_key="to")
    interval = fields.String(validate=validate.OneOf(list(SECONDS)))
    group_by = fields.String(allow_none=True, validate=validate.OneOf(GROUPS))
    total = fields.Nested(Sums)
    points = fields.List(fields.Nested(Point), metadata={"description": "Each interval, oldest first."})
    groups = fields.List(
        fields.Nested(StatisticsGroup),
        allow_none=True,
        metadata={"description": "Largest first; null without group_by."},
    )
    queue = fields.Nested(QueueState)


def dumped(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return an answer of ``figures.answer`` as JSON has it: as :class:`FiguresShape`, in a tenth of its time.

    An answer has up to five thousand points, and is JSON already but for its times.
    """
    queue = answer["queue"]
    oldest = queue["oldest_accepted_at"]
    return {
        "from": rfc3339(answer["begin"]),
        "to": rfc3339(answer["end"]),
        **{name: answer[name] for name in ("interval", "group_by", "total")},
        "points": [{**one, "at": rfc3339(one["at"])} for one in answer["points"]],
        "groups": answer["groups"],
        "queue": {**queue, "oldest_accepted_at": oldest and rfc3339(oldest)},
    }
