"""``mailbbgun slack``: sends messages to Slack, and keeps Slack accounts.

No command prints a token or a webhook's URL, or takes one as an argument.
"""

import sys
from collections.abc import Mapping
from typing import Any, TextIO
from uuid import UUID

import click
from sqlalchemy.orm import Session

from mailbbgun.accept.accept import Acceptor
from mailbbgun.accept.attached import Attached
from mailbbgun.accept.store import Store
from mailbbgun.attachments.inspection import Inspector
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
    typed_options,
    validated,
)
from mailbbgun.core.caller import Caller, Scope
from mailbbgun.core.errors import NotFound, Unavailable
from mailbbgun.core.ids import new_id
from mailbbgun.events.changes.refused_files import RefusedFiles
from mailbbgun.messages.publisher import Publisher
from mailbbgun.services import Services
from mailbbgun.slack.schemas import NewSlackMessage
from mailbbgun.slack.sending import SlackDoor
from mailbbgun.slack_accounts import edit, repo
from mailbbgun.slack_accounts.connection_test import SlackTests, target_of
from mailbbgun.slack_accounts.models import SlackAccount
from mailbbgun.slack_accounts.schemas import NewSlackAccount, SlackAccountChange, SlackAccountShape
from mailbbgun.templates.resolve import Templates

#: Seconds that the command waits until its hint is on the queue. Workers find the message without it, too.
PUBLISH_SECONDS = 10.0
COLUMNS = ("name", "kind", "secret", "default_channel", "is_default", "enabled", "id")
_SECRETS = ("bot_token", "webhook_url")
#: Fields of a message that are objects: the command has options of its own for them, or none.
_OBJECTS = ("fields", "blocks", "metadata")


@click.group()
def slack() -> None:
    """Messages to Slack, and the accounts that they go through."""


@slack.command()
@options_of(NewSlackMessage(), "fields_", "text", "send_at", "useful_until", *_OBJECTS)
@click.option("--field", "pairs", metavar="NAME=VALUE", multiple=True, help="A field. May be repeated.")
@click.option("--key", help="Repeated with this key and the same message, nothing is sent twice.")
@click.argument("text", required=False)
@of_tenant
@as_json
@click.pass_context
def send(context: click.Context, /, tenant: str, as_json: bool, **given: Any) -> None:
    """Send TEXT to a channel of Slack. `-` reads it from standard input.

    It is stored, and a worker posts it: `message show ID` says what became of it.
    """
    ours = ("tenant", "as_json", "pairs", "key")
    wanted = {name: value for name, value in typed_options(context).items() if name not in ours}
    if given["text"] is not None:
        wanted["text"] = sys.stdin.read() if given["text"] == "-" else given["text"]
    if given["pairs"]:
        wanted["fields"] = dict(_pair(one) for one in given["pairs"])
    message, options = validated(NewSlackMessage(), wanted)
    with opened_for(tenant) as (services, tenant_id), as_usage_error():
        caller = Caller(tenant_id, scopes=frozenset(Scope))
        publisher = Publisher(services.db, services.queue, services.outages)
        store = Store(services.db, services.settings.IDEMPOTENCY_SECONDS)
        try:
            door = _door(services, store, publisher)
            accepted = door.accept(message, caller, options.with_key(given["key"])).result()
        finally:
            publisher.close(PUBLISH_SECONDS)
            store.close()
    shown = {"id": accepted.id, "status": accepted.status, "subject": accepted.subject}
    if as_json:
        print_json(shown)
    else:
        print_one(shown)


def _door(services: Services, store: Store, publisher: Publisher) -> SlackDoor:
    files = Attached(services, Inspector(services, RefusedFiles(services.db).tell))
    acceptor = Acceptor(services.settings, store, publisher, files, Templates(services.db))
    return SlackDoor(services.settings, services.db, acceptor)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--field {text!r}: give NAME=VALUE.")
    return name, value


@slack.group()
def accounts() -> None:
    """Slack accounts: bots and incoming webhooks. ACCOUNT is its name or its id."""


@accounts.command("list")
@of_tenant
@as_json
def index(tenant: str, as_json: bool) -> None:
    """List all accounts of a tenant, newest first."""
    with opened_for(tenant) as (services, tenant_id), services.db.read(tenant_id) as session:
        found = all_pages(lambda after: repo.page(session, tenant_id, limit=PAGE, offset=0, after=after))
        shown: Any = SlackAccountShape(many=True).dump(found)
    if as_json:
        print_json({"slack_accounts": shown, "count": len(shown)})
    else:
        print_table(shown, COLUMNS)


def _secret_options(command: Any) -> Any:
    """Give a command the options that read a secret."""
    for name, what in (("webhook-url", "URL of the incoming webhook"), ("bot-token", "bot token")):
        told = f"The {what} is the first line of this file; - is standard input."
        command = click.option(f"--{name}-file", type=click.File(), help=told)(command)
    return command


@accounts.command()
@click.argument("name")
@of_tenant
@options_of(NewSlackAccount(), "name", *_SECRETS)
@_secret_options
@as_json
@click.pass_context
def create(context: click.Context, /, tenant: str, as_json: bool, **_: Any) -> None:
    """Add an account called NAME, of a bot token or an incoming webhook.

    The secret is never an argument: others on this machine could read it.
    """
    wanted = validated(NewSlackAccount(), _given(context) | {"name": context.params["name"]})
    with opened_for(tenant) as (services, tenant_id), as_usage_error():
        with services.db.write(tenant_id) as session:
            edit.create(session, services.vault, services.settings.SLACK_API_URL, tenant_id, new_id(), wanted)
        _print(services, tenant_id, wanted["name"], as_json)


@accounts.command()
@click.argument("account")
@of_tenant
@as_json
def show(account: str, tenant: str, as_json: bool) -> None:
    """Show an account."""
    with opened_for(tenant) as (services, tenant_id):
        _print(services, tenant_id, account, as_json)


@accounts.command()
@click.argument("account")
@of_tenant
@options_of(SlackAccountChange(), *_SECRETS)
@_secret_options
@as_json
@click.pass_context
def update(context: click.Context, /, account: str, tenant: str, as_json: bool, **_: Any) -> None:
    """Change the given fields of an account."""
    wanted = _given(context)
    if not wanted:
        raise click.UsageError("Nothing is to be changed: see --help.")
    values = validated(SlackAccountChange(), wanted)
    with opened_for(tenant) as (services, tenant_id), as_usage_error():
        with services.db.write(tenant_id) as session:
            found = _found(session, tenant_id, account).id
            edit.change(session, services.vault, services.settings.SLACK_API_URL, tenant_id, found, values)
        _print(services, tenant_id, str(found), as_json)


@accounts.command()
@click.argument("account")
@of_tenant
@as_json
def test(account: str, tenant: str, as_json: bool) -> None:
    """Ask Slack whether an account works. Nothing is posted. Exit code 1: it does not work."""
    with opened_for(tenant) as (services, tenant_id):
        with services.db.read(tenant_id) as session:
            target = target_of(_found(session, tenant_id, account), services.vault)
        found: Mapping[str, Any] = SlackTests(services.settings).run(target)
        if as_json:
            print_json(found)
        else:
            print_one(found)
        if not found["ok"]:
            raise Unavailable(f"The Slack account {target.name} does not work: {found['error']}")


@accounts.command()
@click.argument("account")
@of_tenant
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def delete(account: str, tenant: str, yes: bool) -> None:
    """Delete an account and its secret. Messages that wait for it end as ERROR."""
    with opened_for(tenant) as (services, tenant_id):
        with services.db.read(tenant_id) as session:
            found = _found(session, tenant_id, account)
        confirm_deletion(f"the Slack account {found.name} and its secret", yes=yes)
        with services.db.write(tenant_id) as session:
            repo.remove(session, tenant_id, found.id)
    click.echo(f"deleted {found.name}")


def _given(context: click.Context) -> dict[str, Any]:
    """Return the fields that were typed, and the secret that a file has."""
    ours = ("account", "tenant", "as_json", "bot_token_file", "webhook_url_file")
    wanted = {name: value for name, value in typed_options(context).items() if name not in ours}
    for name in _SECRETS:
        file: TextIO | None = context.params[f"{name}_file"]
        if file is not None:
            wanted[name] = file.readline().strip()
    return wanted


def _found(session: Session, tenant_id: UUID, called: str) -> SlackAccount:
    found = repo.called(session, tenant_id, called)
    if found is None:
        raise NotFound(f"There is no Slack account {called!r}.")
    return found


def _print(services: Services, tenant_id: UUID, called: str, as_json: bool) -> None:
    with services.db.read(tenant_id) as session:
        shown: Any = SlackAccountShape().dump(_found(session, tenant_id, called))
    if as_json:
        print_json(shown)
    else:
        print_one(shown)
