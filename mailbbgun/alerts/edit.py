"""Checks, makes and changes rules."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from mailbbgun.alerts import evaluate, repo
from mailbbgun.alerts.kinds import ABOUT, AlertKind
from mailbbgun.alerts.models import ALERTS, Alert
from mailbbgun.alerts.notices import TEST
from mailbbgun.alerts.state import IncidentState
from mailbbgun.core.addresses import address
from mailbbgun.core.caller import Caller, Scope
from mailbbgun.core.errors import Conflict, Forbidden, InvalidInput, NotFound, RateLimited
from mailbbgun.core.ids import new_id
from mailbbgun.core.net import Allowed, Guard
from mailbbgun.database.db import db_now
from mailbbgun.outgoing.urls import WEB_PORTS, why_refused
from mailbbgun.settings.settings import Settings
from mailbbgun.tenants import repo as tenants

#: Most rules of a tenant.
MOST = 100
#: Tests of a tenant's rules within so many seconds, at most. Their mail counts against no quota.
MOST_TRIED, TRY_SECONDS = 10, 60

#: Seconds that a figure must be beyond its threshold, or back, if a rule does not say.
FOR_SECONDS, RESOLVE_SECONDS = 60, 60

Wrong = dict[str, list[str]]


def create(session: Session, who: Caller, alert_id: UUID, given: Mapping[str, Any], guard: Guard) -> Alert:
    """Add a rule. ``given`` has the columns that the client named.

    Raises :class:`InvalidInput`, :class:`Forbidden` for a rule about all tenants, and :class:`Conflict`.
    """
    values = _complete(given)
    check_may(who, all_tenants=values["all_tenants"])
    _check(values, who, guard)
    tenants.lock(session, who.tenant_id)
    if repo.count(session, who.tenant_id) >= MOST:
        raise Conflict(f"There are {MOST} alerts already, which is the most.")
    now = session.scalars(select(db_now())).one()
    # In the past, so that the first look is not long in coming.
    first = {"created_at": now, "updated_at": now, "checked_at": datetime(2000, 1, 1, tzinfo=UTC)}
    made = Alert(id=alert_id, tenant_id=who.tenant_id, silenced_until=None, **values, **first)
    try:
        session.add(made)
        session.flush()
    except IntegrityError as error:
        raise Conflict(f"There is an alert {values['name']!r} already.") from error
    return made


def change(session: Session, who: Caller, alert: Alert, given: Mapping[str, Any], guard: Guard) -> Alert:
    """Change a rule, whose row is locked. What is switched off ends its incidents.

    Raises what :func:`create` does.
    """
    check_may(who, all_tenants=alert.all_tenants)
    values = {name: getattr(alert, name) for name in _CHANGEABLE} | dict(given)
    if "threshold" in given and "resolve_threshold" not in given and alert.resolve_threshold == alert.threshold:
        values["resolve_threshold"] = values["threshold"]
    # A URL that is no longer permitted hinders no other change.
    judge = guard if values["webhook_url"] != alert.webhook_url else None
    _check(values | {"kind": alert.kind, "all_tenants": alert.all_tenants}, who, judge)
    now = session.scalars(select(db_now())).one()
    if alert.enabled and not values["enabled"]:
        evaluate.end_all(session, alert, now)
    try:
        repo.change(session, who.tenant_id, alert.id, values | {"updated_at": now})
    except IntegrityError as error:
        raise Conflict(f"There is an alert {values['name']!r} already.") from error
    return found(session, who.tenant_id, alert.id)


def silence(session: Session, who: Caller, alert: Alert, until: datetime | None) -> Alert:
    """Send no notices of a rule until a moment; None: end the silence. Raises :class:`Forbidden`."""
    check_may(who, all_tenants=alert.all_tenants)
    repo.change(session, who.tenant_id, alert.id, {"silenced_until": until})
    return found(session, who.tenant_id, alert.id)


def try_out(session: Session, who: Caller, alert: Alert) -> int:
    """Make a notice that says it is a test, for each channel of a rule; return how many.

    Raises :class:`Forbidden`, :class:`RateLimited`, and :class:`Conflict` if the rule has no channels.
    """
    check_may(who, all_tenants=alert.all_tenants)
    tenants.lock(session, who.tenant_id)
    now = session.scalars(select(db_now())).one()
    since = datetime.now(UTC) - timedelta(seconds=TRY_SECONDS)
    if repo.tried(session, who.tenant_id, since) >= MOST_TRIED:
        why = f"{MOST_TRIED} alerts were tested within {TRY_SECONDS} seconds, which is the most."
        raise RateLimited(why, limit=MOST_TRIED, retry_after=TRY_SECONDS)
    made = evaluate.make(session, alert, TEST, new_id(), [], [], now, now)
    if not made:
        raise Conflict("This alert tells nobody: give it emails, a slack_channel or a webhook_url first.")
    return made


def remove(session: Session, who: Caller, alert: Alert) -> None:
    """Delete a rule with its incidents. Raises :class:`Forbidden`."""
    check_may(who, all_tenants=alert.all_tenants)
    repo.remove(session, who.tenant_id, alert.id)


def found(session: Session, tenant_id: UUID, called: UUID | str, *, lock: bool = False) -> Alert:
    """Return a tenant's rule by its id or name. Raises :class:`NotFound`."""
    alert = repo.alert(session, tenant_id, called, lock=lock)
    if alert is None:
        raise NotFound("There is no such alert.")
    return alert


def shape(alert: Alert, state: IncidentState | None) -> dict[str, Any]:
    """Return a rule in the form that ``schemas.AlertShape`` takes."""
    about = {"state": (state or IncidentState.OK).value, "unit": ABOUT[AlertKind(alert.kind)].unit}
    return {column.name: getattr(alert, column.name) for column in ALERTS.columns} | about


def shown(session: Session, alert: Alert) -> dict[str, Any]:
    """Return a rule as :func:`shape` does, with its state."""
    return shape(alert, repo.states(session, alert.tenant_id, [alert.id]).get(alert.id))


def guard(settings: Settings) -> Guard:
    """Return what judges the hosts of URLs."""
    return Guard(WEB_PORTS, Allowed.read(settings.ALLOW_PRIVATE_HOSTS))


def check_may(who: Caller, *, all_tenants: bool) -> None:
    """Raise :class:`Forbidden` unless the caller may make or change such a rule."""
    if all_tenants and Scope.ADMIN not in who.scopes:
        raise Forbidden("An alert about all tenants needs a key with the scope admin.")


_CHANGEABLE = tuple(
    column.name
    for column in ALERTS.columns
    if column.name
    not in ("id", "tenant_id", "kind", "all_tenants", "created_at", "updated_at", "checked_at", "silenced_until")
)


def _complete(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all columns that a client may name, by the defaults of the kind where it named none."""
    about = ABOUT[AlertKind(given["kind"])]
    values = {
        "all_tenants": about.only_of_all, "threshold": about.threshold, "for_seconds": FOR_SECONDS,
        "resolve_seconds": RESOLVE_SECONDS, "window_seconds": about.window_seconds, "least": about.least,
        "group_seconds": 0, "emails": [], "slack_channel": None, "webhook_url": None, "enabled": True,
    } | dict(given)  # fmt: skip
    values.setdefault("resolve_threshold", values["threshold"])
    return values


def _check(values: dict[str, Any], who: Caller, guard: Guard | None) -> None:
    """Check a rule's values together, and write addresses as they are stored. Raises :class:`InvalidInput`.

    Without ``guard`` the URL is not looked at.
    """
    kind, wrong = AlertKind(values["kind"]), Wrong()
    about = ABOUT[kind]
    if values["threshold"] > about.most:
        wrong["threshold"] = [
            f"{values['threshold']:g} is more than {about.most:g}, the most for {kind} ({about.unit})."
        ]
    if values["resolve_threshold"] > values["threshold"]:
        wrong["resolve_threshold"] = [
            f"{values['resolve_threshold']:g} is above the threshold {values['threshold']:g}: an alert is resolved "
            "when its figure is below this, so it is at most the threshold."
        ]
    if about.only_of_all and not values["all_tenants"]:
        wrong["all_tenants"] = [f"{kind} is about the whole service, so it is true."]
    if values["all_tenants"] and not about.may_be_of_all:
        wrong["all_tenants"] = [f"{kind} is about one tenant, so it is false."]
    try:
        values["emails"] = list(dict.fromkeys(address(one.strip()) for one in values["emails"]))
    except ValueError as error:
        wrong["emails"] = [str(error)]
    else:
        if strangers := [one for one in values["emails"] if not who.may_send_to(one)]:
            wrong["emails"] = [f"This API key sends to its guests only, and {strangers[0]} is none."]
    if guard and values["webhook_url"] and (why := why_refused(values["webhook_url"], guard)):
        wrong["webhook_url"] = [why]
    if wrong:
        raise InvalidInput("Some fields are not valid.", fields=wrong)
