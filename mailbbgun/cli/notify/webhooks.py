"""``mailbbgun webhook``: URLs that events are sent to. A secret is printed once, when it is made."""

from datetime import datetime
from typing import Any
from uuid import UUID

import click
from sqlalchemy.orm import Session

from mailbbgun.cli.terminal import (
    PAGE,
    all_pages,
    as_json,
    as_usage_error,
    confirm_deletion,
    of_tenant,
    opened_for,
    print_json,
    print_one,
    print_table,
    uuid,
    validated,
)
from mailbbgun.core.errors import NotFound, Unavailable
from mailbbgun.core.ids import new_id
from mailbbgun.events.reading import Position
from mailbbgun.outgoing.signing import secret_of
from mailbbgun.webhooks import edit, repo
from mailbbgun.webhooks.by_hand import ByHand
from mailbbgun.webhooks.schemas import (
    KINDS,
    MOST_HOURS,
    NewWebhook,
    WebhookAttemptShape,
    WebhookShape,
    WebhookWithSecret,
    Window,
)

COLUMNS = ("url", "state", "kinds", "retries", "failing_since", "id")
ATTEMPT_COLUMNS = ("at", "kind", "cause", "status", "seconds", "error", "position")


@click.group()
def webhook() -> None:
    """Webhooks: URLs that events are sent to. WEBHOOK is its id."""


@webhook.command("list")
@of_tenant
@as_json
def index(tenant: str, as_json: bool) -> None:
    """List all webhooks of a tenant, newest first."""
    with opened_for(tenant) as (services, tenant_id), services.db.read(tenant_id) as session:
        rows = all_pages(lambda after: repo.page(session, tenant_id, limit=PAGE, offset=0, after=after))
        shown: Any = WebhookShape(many=True).dump([edit.shown(session, row) for row in rows])
    if as_json:
        print_json({"webhooks": shown, "count": len(shown)})
    else:
        print_table([one | {"kinds": ",".join(one["kinds"]) or "all"} for one in shown], COLUMNS)


@webhook.command()
@click.argument("url")
@of_tenant
@click.option("--kind", "kinds", multiple=True, type=click.Choice(KINDS), help="Only events of this kind; repeatable.")
@click.option("--description", default="", help="A note of your own.")
@click.option("--test", is_flag=True, help="Only events of test messages.")
@as_json
def add(url: str, tenant: str, kinds: tuple[str, ...], description: str, test: bool, as_json: bool) -> None:
    """Send events to URL from now on, and print the secret that signs them."""
    given = {"url": url, "kinds": list(kinds), "description": description, "test": test}
    wanted, secret, made = validated(NewWebhook(), given), secret_of(None), new_id()
    with opened_for(tenant) as (services, tenant_id), as_usage_error():
        with services.db.write(tenant_id) as session:
            shown = edit.create(session, services.vault, services.settings, tenant_id, made, wanted, secret)
    _print(WebhookWithSecret().dump(shown | {"secret": secret}), as_json)


@webhook.command()
@click.argument("webhook")
@of_tenant
@as_json
def show(webhook: str, tenant: str, as_json: bool) -> None:
    """Show a webhook, and whether it works."""
    with opened_for(tenant) as (services, tenant_id), services.db.read(tenant_id) as session:
        shown = edit.shown(session, _found(session, tenant_id, webhook))
    _print(WebhookShape().dump(shown), as_json)


@webhook.command()
@click.argument("webhook")
@of_tenant
@as_json
def enable(webhook: str, tenant: str, as_json: bool) -> None:
    """Send events to a webhook again, from where it was."""
    _switch(webhook, tenant, as_json, enabled=True)


@webhook.command()
@click.argument("webhook")
@of_tenant
@as_json
def disable(webhook: str, tenant: str, as_json: bool) -> None:
    """Send nothing to a webhook until it is enabled. It keeps its place."""
    _switch(webhook, tenant, as_json, enabled=False)


@webhook.command()
@click.argument("webhook")
@of_tenant
@click.option(
    "--keep-hours",
    type=click.IntRange(0, MOST_HOURS),
    default=24,
    show_default=True,
    help="For how many hours the secret of now signs beside the new one.",
)
@as_json
def rotate(webhook: str, tenant: str, keep_hours: int, as_json: bool) -> None:
    """Give a webhook another secret, and print it."""
    with opened_for(tenant) as (services, tenant_id), services.db.write(tenant_id) as session:
        its = _found(session, tenant_id, webhook)
        shown = edit.rotate(session, services.vault, tenant_id, its.id, None, keep_hours)
    _print(WebhookWithSecret().dump(shown), as_json)


@webhook.command()
@click.argument("webhook")
@of_tenant
@as_json
def attempts(webhook: str, tenant: str, as_json: bool) -> None:
    """List requests of a webhook that failed or that a person asked for, newest first."""
    with opened_for(tenant) as (services, tenant_id), services.db.read(tenant_id) as session:
        its = _found(session, tenant_id, webhook)
        rows = all_pages(lambda after: repo.attempts(session, tenant_id, its.id, limit=PAGE, offset=0, after=after))
    shown: Any = WebhookAttemptShape(many=True).dump(rows)
    if as_json:
        print_json({"attempts": shown, "count": len(shown)})
    else:
        print_table(shown, ATTEMPT_COLUMNS)


@webhook.command()
@click.argument("webhook")
@of_tenant
@as_json
def test(webhook: str, tenant: str, as_json: bool) -> None:
    """Send a test event now. Exit code 1: it was not acknowledged."""
    _by_hand(webhook, tenant, as_json, None)


@webhook.command()
@click.argument("webhook")
@click.argument("position")
@of_tenant
@as_json
def redeliver(webhook: str, position: str, tenant: str, as_json: bool) -> None:
    """Send the event at POSITION once more now. Exit code 1: it was not acknowledged."""
    try:
        place = Position.parse(position)
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error
    _by_hand(webhook, tenant, as_json, place)


@webhook.command()
@click.argument("webhook")
@of_tenant
@click.option("--from", "begin", required=True, help="The time of the first event: 2026-01-31T12:00:00Z, or a date.")
@click.option("--to", "stop", required=True, help="Events before this time are sent.")
def replay(webhook: str, tenant: str, begin: str, stop: str) -> None:
    """Let a worker send the events of a time once more."""
    window: dict[str, datetime] = validated(Window(), {"from": begin, "to": stop})
    with opened_for(tenant) as (services, tenant_id), as_usage_error():
        with services.db.write(tenant_id) as session:
            its = _found(session, tenant_id, webhook)
            made = edit.replay(session, tenant_id, its.id, window["begin"], window["stop"])
    click.echo(f"started {made}")


@webhook.command()
@click.argument("webhook")
@of_tenant
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def delete(webhook: str, tenant: str, yes: bool) -> None:
    """Delete a webhook and its log."""
    with opened_for(tenant) as (services, tenant_id):
        with services.db.read(tenant_id) as session:
            its = _found(session, tenant_id, webhook)
        confirm_deletion(f"the webhook {its.url}", yes=yes)
        with services.db.write(tenant_id) as session:
            repo.remove(session, tenant_id, its.id)
    click.echo(f"deleted {its.id}")


def _found(session: Session, tenant_id: UUID, called: str) -> repo.Found:
    identifier = uuid(called)
    if identifier is None:
        raise NotFound(f"{called!r} is no id of a webhook; mailbbgun webhook list shows the ids.")
    return edit.found(session, tenant_id, identifier)


def _switch(called: str, tenant: str, as_json: bool, *, enabled: bool) -> None:
    with opened_for(tenant) as (services, tenant_id), services.db.write(tenant_id) as session:
        its = _found(session, tenant_id, called)
        shown = edit.change(session, services.settings, tenant_id, its.id, {"enabled": enabled})
    _print(WebhookShape().dump(shown), as_json)


def _by_hand(called: str, tenant: str, as_json: bool, place: Position | None) -> None:
    with opened_for(tenant) as (services, tenant_id):
        with services.db.read(tenant_id) as session:
            its = _found(session, tenant_id, called)
        sender = ByHand(services)
        try:
            tried = sender.test(tenant_id, its.id) if place is None else sender.redeliver(tenant_id, its.id, place)
        finally:
            sender.close()
        shown: Any = WebhookAttemptShape().dump(tried)
        _print(shown, as_json)
        if shown["error"]:
            raise Unavailable(shown["error"])


def _print(shown: Any, as_json: bool) -> None:
    if as_json:
        print_json(shown)
    else:
        print_one(shown)
