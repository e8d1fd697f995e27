"""``mailbbgun alert``: alerts, and what fires now or has fired."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import click
from sqlalchemy.orm import Session

from mailbbgun.alerts import edit, repo
from mailbbgun.alerts.models import Alert
from mailbbgun.alerts.schemas import (
    INCIDENT_STATES,
    AlertChange,
    Alerts,
    AlertShape,
    Incidents,
    NewAlert,
    Silence,
    silent_until,
)
from mailbbgun.cli.terminal import (
    PAGE,
    all_pages,
    as_json,
    as_usage_error,
    confirm_deletion,
    of_tenant,
    opened_for,
    options_of,
    print_json,
    print_one,
    print_table,
    uuid,
    validated,
)
from mailbbgun.core.caller import ANYBODY, Caller
from mailbbgun.core.ids import new_id

COLUMNS = ("name", "kind", "state", "threshold", "unit", "silenced_until", "enabled", "id")
INCIDENT_COLUMNS = ("alert", "subject", "state", "value", "peak", "since", "fired_at", "resolved_at", "id")
#: Names of options by names of columns.
OPTIONS = {"for": "for_seconds", "resolve_for": "resolve_seconds", "window": "window_seconds", "group": "group_seconds"}

_CHANGES = ("name", "emails", *OPTIONS.values())
_durations = [
    click.option(f"--{name.replace('_', '-')}", name, type=int, help=str(field.metadata["description"]))
    for name, column in OPTIONS.items()
    for field in [AlertChange().fields[column]]
]
_emails = click.option("--email", multiple=True, help="Who gets notices by mail; may be repeated.")


@click.group()
def alert() -> None:
    """Alerts: who is told when a figure is beyond its threshold, and when it is back.

    ALERT is its name or its id.
    """


@alert.command("list")
@of_tenant
@as_json
def index(tenant: str, as_json: bool) -> None:
    """List all alerts of a tenant, newest first, with their states."""
    with opened_for(tenant) as (services, tenant_id), services.db.read(tenant_id) as session:
        found = all_pages(lambda after: repo.page(session, tenant_id, limit=PAGE, offset=0, after=after))
        states = repo.states(session, tenant_id, [one.id for one in found])
    shown: Any = Alerts().dump({"alerts": [edit.shape(one, states.get(one.id)) for one in found], "count": len(found)})
    if as_json:
        print_json(shown)
    else:
        print_table(shown["alerts"], COLUMNS)


@alert.command()
@click.argument("alert", metavar="ALERT")
@of_tenant
@as_json
def show(alert: str, tenant: str, as_json: bool) -> None:
    """Show an alert and its state."""
    with opened_for(tenant) as (services, tenant_id), services.db.read(tenant_id) as session:
        shown = edit.shown(session, _found(session, tenant_id, alert))
    _print(shown, as_json)


def _options(command: Any) -> Any:
    for option in reversed([*_durations, _emails]):
        command = option(command)
    return command


@alert.command()
@click.argument("name")
@options_of(NewAlert(), *_CHANGES)
@_options
@of_tenant
@as_json
@click.pass_context
def add(context: click.Context, /, name: str, tenant: str, as_json: bool, **_: Any) -> None:
    """Add the alert NAME. What is not given has a default by the kind."""
    wanted = validated(NewAlert(), {"name": name} | _given(context, "name"))
    with opened_for(tenant) as (services, tenant_id), as_usage_error(), services.db.write(tenant_id) as session:
        made = edit.create(session, _who(tenant_id), new_id(), wanted, edit.guard(services.settings))
        shown = edit.shown(session, made)
    _print(shown, as_json)


@alert.command()
@click.argument("alert", metavar="ALERT")
@click.option("--name", help="Its new name.")
@options_of(AlertChange(), *_CHANGES)
@_options
@of_tenant
@as_json
@click.pass_context
def change(context: click.Context, /, alert: str, tenant: str, as_json: bool, **_: Any) -> None:
    """Change an alert. What is not given stays.

    --email "", --slack-channel "" and --webhook-url "" name nobody.
    """
    wanted = validated(AlertChange(), _given(context, "alert"))
    with opened_for(tenant) as (services, tenant_id), as_usage_error(), services.db.write(tenant_id) as session:
        found = _found(session, tenant_id, alert, lock=True)
        changed = edit.change(session, _who(tenant_id), found, wanted, edit.guard(services.settings))
        shown = edit.shown(session, changed)
    _print(shown, as_json)


@alert.command()
@click.argument("alert", metavar="ALERT")
@click.option("--minutes", type=int, help="For how long; 0 ends a silence.  [default: 60]")
@click.option("--until", metavar="TIME", help="Or until when: an RFC 3339 time such as 2026-12-31T12:00:00Z.")
@of_tenant
@as_json
def silence(alert: str, minutes: int | None, until: str | None, tenant: str, as_json: bool) -> None:
    """Send no notices of an alert for a while. If it still fires after that, a notice says so then."""
    given = {name: value for name, value in (("minutes", minutes), ("until", until)) if value is not None}
    wanted = validated(Silence(), given)
    with opened_for(tenant) as (services, tenant_id), services.db.write(tenant_id) as session:
        found = _found(session, tenant_id, alert, lock=True)
        end = silent_until(wanted, datetime.now(UTC))
        shown = edit.shown(session, edit.silence(session, _who(tenant_id), found, end))
    _print(shown, as_json)


@alert.command()
@click.argument("alert", metavar="ALERT")
@of_tenant
def test(alert: str, tenant: str) -> None:
    """Send a notice that says it is a test, on each channel of an alert. A worker sends it."""
    with opened_for(tenant) as (services, tenant_id), services.db.write(tenant_id) as session:
        made = edit.try_out(session, _who(tenant_id), _found(session, tenant_id, alert, lock=True))
    click.echo(f"{made} to be sent")


@alert.command()
@click.argument("alert", metavar="ALERT")
@of_tenant
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def delete(alert: str, tenant: str, yes: bool) -> None:
    """Delete an alert with its incidents."""
    with opened_for(tenant) as (services, tenant_id):
        with services.db.read(tenant_id) as session:
            name = _found(session, tenant_id, alert).name
        confirm_deletion(f"the alert {name} and its incidents", yes=yes)
        with services.db.write(tenant_id) as session:
            edit.remove(session, _who(tenant_id), _found(session, tenant_id, alert, lock=True))
    click.echo(f"deleted the alert {name}")


@alert.command()
@click.option("--state", type=click.Choice(INCIDENT_STATES), help="Only those in this state.")
@click.option("--limit", type=click.IntRange(1, PAGE), default=50, show_default=True, help="Most to show.")
@of_tenant
@as_json
def incidents(state: str | None, limit: int, tenant: str, as_json: bool) -> None:
    """List what fires now and what has fired, newest first."""
    with opened_for(tenant) as (services, tenant_id), services.db.read(tenant_id) as session:
        found, count, _ = repo.incidents(session, tenant_id, state=state, limit=limit, offset=0, after=None)
    shown: Any = Incidents().dump({"incidents": found, "count": count})
    if as_json:
        print_json(shown)
    else:
        print_table(shown["incidents"], INCIDENT_COLUMNS)


def _who(tenant_id: UUID) -> Caller:
    """Return the caller that somebody at the command line is: one who may do everything."""
    return replace(ANYBODY, tenant_id=tenant_id)


def _given(context: click.Context, *but: str) -> dict[str, Any]:
    """Return the fields that were typed, by their names in JSON."""
    from_options = {
        name: value
        for name, value in context.params.items()
        if value not in (None, ()) and name not in ("tenant", "as_json")
    }
    emails = from_options.pop("email", None)
    if emails is not None:
        from_options["emails"] = [one for one in emails if one]
    for name in ("slack_channel", "webhook_url"):
        if from_options.get(name) == "":
            from_options[name] = None
    return {name: value for name, value in from_options.items() if name not in but}


def _found(session: Session, tenant_id: UUID, called: str, *, lock: bool = False) -> Alert:
    return edit.found(session, tenant_id, uuid(called) or called, lock=lock)


def _print(shown: Mapping[str, Any], as_json: bool) -> None:
    told: Any = AlertShape().dump(shown)
    if as_json:
        print_json(told)
    else:
        print_one(told)
