"""``mailbbgun events``: the log of all that happened, and what happens now."""

import json
import time
from typing import Any

import click

from mailbbgun.cli.terminal import (
    Command,
    as_json,
    as_usage_error,
    of_tenant,
    opened_for,
    print_json,
    print_table,
    typed_options,
    validated,
)
from mailbbgun.events.following.pages import LAST, asked_of, page, place_of
from mailbbgun.events.schemas import LogQuery

COLUMNS = ("at", "kind", "recipient", "subject", "data", "message_id")
#: Seconds between two looks for new events.
LOOK_SECONDS = 0.5
#: Parameters of ``GET /events`` that are no filters.
_PLACES = ("limit", "after", "before", "cursor", "wait")


@click.group()
def events() -> None:
    """What happened to all messages of a tenant."""


def _filters(command: Command) -> Command:
    """Give a command an option for each filter of ``GET /events``, with the same name."""
    for attribute, field in reversed(LogQuery().fields.items()):
        name = field.data_key or attribute
        if name not in _PLACES:
            command = click.option(f"--{name}", name, help=field.metadata["description"])(command)
    return command


@events.command("list")
@of_tenant
@_filters
@click.option("--limit", type=int, help="At most so many.  [default: 100]")
@click.option("--before", help="Go on before this place, as the page before said.")
@as_json
@click.pass_context
def index(context: click.Context, /, tenant: str, as_json: bool, **_: Any) -> None:
    """List events, newest first, by the filters of GET /events."""
    query = _query(context)
    with opened_for(tenant) as (services, tenant_id), services.db.read(tenant_id) as session, as_usage_error():
        found = page(session, asked_of(session, tenant_id, query))
    shown = found.shown()
    if as_json:
        print_json(shown)
        return
    print_table([_row(one) for one in shown["events"]], COLUMNS)
    if found.next:
        click.echo(f"to go on: --before {found.next}", err=True)


@events.command()
@of_tenant
@_filters
@click.option("--after", default=LAST, show_default=True, help="Begin after this place: start, end or a position.")
@as_json
@click.pass_context
def follow(context: click.Context, /, tenant: str, after: str, as_json: bool, **_: Any) -> None:
    """Print events as they happen, each on a line, until Ctrl-C."""
    query = _query(context) | {"after": None}
    with opened_for(tenant) as (services, tenant_id):
        with services.db.read(tenant_id) as session, as_usage_error():
            asked = asked_of(session, tenant_id, query)._replace(after=place_of(session, tenant_id, "after", after))
        while True:
            with services.db.read(tenant_id) as session:
                found = page(session, asked)
            for one in found.shown()["events"]:
                click.echo(json.dumps(one) if as_json else _line(one))
            asked = asked._replace(after=found.next)
            if len(found.events) < asked.limit:
                time.sleep(LOOK_SECONDS)


def _query(context: click.Context) -> dict[str, Any]:
    typed = typed_options(context)
    given = {name: str(value) for name, value in typed.items() if name not in ("tenant", "as_json", "after")}
    query: dict[str, Any] = validated(LogQuery(), given)
    return query


def _row(event: dict[str, Any]) -> dict[str, Any]:
    return event | {"data": " ".join(f"{key}={value}" for key, value in event["data"].items())}


def _line(event: dict[str, Any]) -> str:
    """Return an event on one line. Characters of other people's texts that control a terminal are escaped."""
    row = _row(event)
    line = "  ".join(str(row[name]) for name in COLUMNS if row[name])
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in line)
