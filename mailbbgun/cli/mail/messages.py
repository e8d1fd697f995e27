"""``mailbbgun message``: find messages, see what became of them, cancel, retry or reschedule them.

Rules and words are those of the HTTP API: both call the same functions.
"""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import click
import orjson

from mailbbgun.cli.terminal import (
    PAGE,
    PROGRAM,
    all_pages,
    as_json,
    as_usage_error,
    filters_of,
    of_tenant,
    opened_for,
    print_json,
    print_one,
    print_page,
    print_table,
    typed_options,
    validated,
)
from mailbbgun.core.errors import QueueMisconfigured, Unavailable, explained
from mailbbgun.events import causes, timeline
from mailbbgun.events.schemas import Timeline
from mailbbgun.explain import explain as explaining
from mailbbgun.explain.schemas import Explanation
from mailbbgun.messages import find
from mailbbgun.messages.publisher import publish
from mailbbgun.messages.repo import Wanted
from mailbbgun.messages.schemas import Details, Filters, Messages
from mailbbgun.oversight import intervene
from mailbbgun.oversight.schemas import CHANGEABLE, MessageChange, checked
from mailbbgun.services import Services

COLUMNS = ("created_at", "status", "reason", "from", "to", "subject", "id")
OUTCOME = ("status", "reason", "attempts", "last_reply", "next_attempt_at", "finished_at")
DELIVERY_COLUMNS = ("address", "kind", *OUTCOME, "class", "cause", "id")
EVENT_COLUMNS = ("at", "kind", "address", "data")

_message = click.argument("message_id", metavar="MESSAGE", type=click.UUID)


@click.group()
def message() -> None:
    """Messages of a tenant, and what became of them.

    MESSAGE is the id that POST /messages answered.
    """


@message.command("list")
@of_tenant
@filters_of(Filters())
@as_json
@click.pass_context
def index(context: click.Context, /, tenant: str, as_json: bool, **_: Any) -> None:
    """List messages, newest first, by the filters of GET /messages.

    A message must match all of them.
    """
    typed = {name: value for name, value in typed_options(context).items() if name not in ("tenant", "as_json")}
    filters = validated(Filters(), typed)
    with opened_for(tenant) as (services, tenant_id), services.db.read(tenant_id) as session:
        found, count, last = find.page(session, Wanted(tenant_id=tenant_id, **filters))
    shown: Any = Messages().dump({"messages": found, "count": count})
    if as_json:
        print_json(shown)
        return
    print_page(shown["messages"], COLUMNS, count, last)


@message.command()
@_message
@of_tenant
@as_json
def show(message_id: UUID, tenant: str, as_json: bool) -> None:
    """Show a message with its deliveries: status, reason, attempts, and the last reply of the
    receiving server.
    """
    with opened_for(tenant) as (services, tenant_id):
        found = causes.details(services.db, tenant_id, message_id)
    shown: Any = Details().dump(found)
    if as_json:
        print_json(shown)
        return
    deliveries = shown.pop("deliveries")
    files = [f"{one['filename']} ({one['size']} bytes)" for one in shown["attachments"]]
    print_one(shown | {"metadata": _json(shown["metadata"]), "attachments": files})
    click.echo()
    print_table(deliveries, DELIVERY_COLUMNS)


@message.command()
@_message
@of_tenant
@as_json
def events(message_id: UUID, tenant: str, as_json: bool) -> None:
    """Show all that happened to a message, newest first."""
    with opened_for(tenant) as (services, tenant_id), services.db.read(tenant_id) as session:
        found = all_pages(
            lambda after: timeline.page(session, tenant_id, message_id, limit=PAGE, offset=0, after=after)
        )
    shown: Any = Timeline().dump({"events": found, "count": len(found)})
    if as_json:
        print_json(shown)
    else:
        print_table([one | {"data": _pairs(one["data"])} for one in shown["events"]], EVENT_COLUMNS)


@message.command()
@_message
@of_tenant
@as_json
def explain(message_id: UUID, tenant: str, as_json: bool) -> None:
    """Explain in plain words why each delivery of a message is where it is."""
    with opened_for(tenant) as (services, tenant_id):
        found = explaining.explain(services, tenant_id, message_id)
    shown: Any = Explanation().dump(found)
    if as_json:
        print_json(shown)
        return
    for one in shown["deliveries"]:
        click.echo(f"{one['address']}: {one['status']}, {one['code']}")
        for cause in (one, *one["also"]):
            click.echo(f"    {cause['text']}\n    {cause['next']}")


@message.command()
@_message
@of_tenant
@as_json
def cancel(message_id: UUID, tenant: str, as_json: bool) -> None:
    """Cancel the deliveries of a message that have not left yet."""
    with opened_for(tenant) as (services, tenant_id):
        changed = intervene.cancel(services.db, tenant_id, message_id)
    _print_changed(changed, "cancelled", as_json)


@message.command()
@_message
@of_tenant
@as_json
def retry(message_id: UUID, tenant: str, as_json: bool) -> None:
    """Retry a message now.

    Failed deliveries become due with a fresh schedule. Those that wait for their next try stay on
    their schedule.
    """
    with opened_for(tenant) as (services, tenant_id):
        changed = intervene.retry(services.db, lambda lane, one: _publish(services, lane, one), tenant_id, message_id)
    _print_changed(changed, "due now", as_json)


@message.command()
@_message
@of_tenant
@click.option("--send-at", "send_at", metavar="TIME", help="When to send it; now sends it now.")
@click.option("--useful-until", "useful_until", metavar="TIME", help="Never send it after this time; none: no limit.")
@click.option("--ttl", type=int, help="Instead: for how many seconds it is useful.")
@click.option("--priority", type=int, help="0 to 9, 9 first.")
@as_json
@click.pass_context
def reschedule(context: click.Context, /, message_id: UUID, tenant: str, as_json: bool, **_: Any) -> None:
    """Change when a pending message is sent, and until when it is useful.

    A TIME is as in RFC 3339 or RFC 2822, or Unix seconds.
    """
    typed = {name: value for name, value in typed_options(context).items() if name in CHANGEABLE}
    if not typed:
        raise click.UsageError("Nothing is to be changed: see --help.")
    given = {name: None if value in ("now", "none") else value for name, value in typed.items()}
    wanted = validated(MessageChange(), given)
    with opened_for(tenant) as (services, tenant_id):
        with as_usage_error():
            values = checked(wanted, datetime.now(UTC), services.settings)
            changed = intervene.change(
                services.db, lambda lane, one: _publish(services, lane, one), tenant_id, message_id, values
            )
    if as_json:
        print_json(Details().dump(changed.message))
    else:
        shown: Any = Details().dump(changed.message)
        print_one({name: shown[name] for name in ("id", "status", "send_at", "useful_until", "priority")})


def _publish(services: Services, lane: str, message_id: UUID) -> None:
    """Publish a hint. A failure does not matter: workers look for messages without a hint."""
    try:
        publish(services.db, services.queue, lane, [message_id])
    except (Unavailable, QueueMisconfigured) as error:
        why = f"{PROGRAM}: {explained(error)}"
        click.echo(f"{why}; workers find the message by themselves once the queue is back", err=True)


def _print_changed(changed: intervene.Changed, what: str, as_json: bool) -> None:
    if as_json:
        print_json(Details().dump(changed.message))
        return
    total = len(changed.message["deliveries"])
    verb = "is" if changed.deliveries == 1 else "are"
    click.echo(f"{changed.deliveries} of {total} {'delivery' if total == 1 else 'deliveries'} {verb} {what}")


def _json(value: Any) -> str | None:
    return orjson.dumps(value).decode() if value else None


def _pairs(data: dict[str, Any]) -> str | None:
    """Return ``code=550 reply=5.1.1 no such user``."""
    told = {name: value if isinstance(value, str) else orjson.dumps(value).decode() for name, value in data.items()}
    return " ".join(f"{name}={value}" for name, value in told.items()) or None
