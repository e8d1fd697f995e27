"""``mailbbgun inbound-route``: what is done with mail that comes to local domains."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import click
from sqlalchemy.orm import Session

from mailbbgun.cli.terminal import (
    PAGE,
    Command,
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
    uuid,
    validated,
)
from mailbbgun.core.errors import Conflict
from mailbbgun.core.ids import new_id
from mailbbgun.domains.local import LocalDomains
from mailbbgun.inbound_routes import edit, repo
from mailbbgun.inbound_routes.recipients import InboundRecipients
from mailbbgun.inbound_routes.schemas import (
    FORMS,
    InboundRouteChange,
    InboundRoutes,
    InboundRouteShape,
    InboundRouteWithSecret,
    InboundTrial,
    InboundVerdict,
    NewInboundRoute,
)
from mailbbgun.outgoing.signing import secret_of
from mailbbgun.tenants import repo as tenants

COLUMNS = ("priority", "name", "match", "actions", "stop", "enabled", "id")
#: Fields that are options of the same name; those of patterns and actions are ours.
PLAIN = ("name", "priority", "stop", "enabled")
#: What --store says for the recipient's own mailbox.
OWN = "own"

_route = click.argument("route", metavar="ROUTE")


@click.group("inbound-route")
def inbound_route() -> None:
    """Inbound routes: mail to local domains is stored, forwarded, posted to a URL or dropped.

    ROUTE is its name or its id. In patterns * stands for any characters.
    """


def _what_it_does(command: Command) -> Command:
    """Give a command the options for the fields, the patterns and the actions of a route."""
    for option in reversed(
        (
            click.option("--recipient", metavar="PATTERN", help="Only mail to such recipients."),
            click.option("--header", metavar="NAME=PATTERN", help="Only mail with such a field in its header."),
            click.option("--store", metavar="ADDRESS", help=f"Keep it in this mailbox; {OWN}: in the recipient's own."),
            click.option("--forward", multiple=True, metavar="ADDRESS", help="Forward it there; may be repeated."),
            click.option("--post", metavar="URL", help="Post it to this URL, signed."),
            click.option("--form", type=click.Choice(FORMS), help="In this form.  [default: json]"),
        )
    ):
        command = option(command)
    return options_of(InboundRouteChange(), "matching", "actions", "secret")(command)


@inbound_route.command("list")
@of_tenant
@as_json
def index(tenant: str, as_json: bool) -> None:
    """List all inbound routes of a tenant, in the order in which they are tried; with --json newest first."""
    with opened_for(tenant) as (services, tenant_id), services.db.read(tenant_id) as session:
        found = _all(session, tenant_id)
    shown: Any = InboundRoutes().dump({"inbound_routes": [edit.shown(row) for row in found], "count": len(found)})
    if as_json:
        print_json(shown)
    else:
        rows = sorted(shown["inbound_routes"], key=lambda one: (one["priority"], one["id"]))
        print_table([_for_people(one) for one in rows], COLUMNS)


@inbound_route.command()
@_route
@of_tenant
@as_json
def show(route: str, tenant: str, as_json: bool) -> None:
    """Show an inbound route."""
    with opened_for(tenant) as (services, tenant_id), services.db.read(tenant_id) as session:
        shown = edit.shown(_found(session, tenant_id, route))
    _print(InboundRouteShape().dump(shown), as_json)


@inbound_route.command()
@_what_it_does
@of_tenant
@as_json
@click.pass_context
def add(context: click.Context, /, tenant: str, as_json: bool, **_: Any) -> None:
    """Add an inbound route, and print the secret that signs its posts.

    It needs an action, --store, --forward or --post, or --stop: then it drops mail.
    """
    wanted, secret = validated(NewInboundRoute(), {"actions": []} | _given(context, {}, [])), secret_of(None)
    with opened_for(tenant) as (services, tenant_id), as_usage_error(), services.db.write(tenant_id) as session:
        made = edit.create(session, services.vault, services.settings, tenant_id, new_id(), wanted, secret)
    _print(InboundRouteWithSecret().dump(made | {"secret": secret}), as_json)


@inbound_route.command("set")
@_route
@_what_it_does
@click.option("--new-secret", is_flag=True, help="Give it another secret, and print it.")
@of_tenant
@as_json
@click.pass_context
def change(context: click.Context, /, route: str, new_secret: bool, tenant: str, as_json: bool, **_: Any) -> None:
    """Change an inbound route. What is not given stays.

    --recipient "" and --header "" take a pattern away, --store "", --forward "" and --post "" an action.
    Mail that waits to be posted is posted to the new URL, and signed by the new secret.
    """
    if not typed_options(context).keys() - {"route", "tenant", "as_json"}:
        raise click.UsageError("Nothing is to be changed: see --help.")
    secret = {"secret": secret_of(None)} if new_secret else {}
    with opened_for(tenant) as (services, tenant_id), as_usage_error(), services.db.write(tenant_id) as session:
        tenants.lock(session, tenant_id)  # so what is read here is what is changed
        row = _found(session, tenant_id, route)
        wanted = validated(InboundRouteChange(), _given(context, row.matching, row.actions) | secret)
        shown = edit.change(session, services.vault, services.settings, tenant_id, row.id, wanted)
    _print((InboundRouteWithSecret() if new_secret else InboundRouteShape()).dump(shown | secret), as_json)


@inbound_route.command()
@_route
@of_tenant
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def delete(route: str, tenant: str, yes: bool) -> None:
    """Delete an inbound route. Mail that waits to be posted by it ends as ERROR."""
    with opened_for(tenant) as (services, tenant_id):
        with services.db.read(tenant_id) as session:
            found = _found(session, tenant_id, route)
        what = f"the inbound route {found.name or found.id}"
        confirm_deletion(what, yes=yes)
        with services.db.write(tenant_id) as session:
            if not repo.remove(session, tenant_id, found.id):
                raise edit.missing()
    click.echo(f"deleted {what}")


@inbound_route.command("try")
@click.argument("recipient")
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="A field of its header; repeatable.")
@of_tenant
@as_json
def try_out(recipient: str, headers: Sequence[str], tenant: str, as_json: bool) -> None:
    """Say what would become of a mail to RECIPIENT. Exit code 1: its sender would be refused.

    Nothing is stored, and nothing is sent. Without --header it is what the sender hears before it sends the mail.
    """
    fields = dict(_pair(one) for one in headers)
    wanted = validated(InboundTrial(), {"recipient": recipient, "headers": fields or None})
    with opened_for(tenant) as (services, tenant_id), as_usage_error():
        found = InboundRecipients(services.db, LocalDomains(services.db)).tried(tenant_id, wanted)
    shown: Any = InboundVerdict().dump(found)
    if as_json:
        print_json(shown)
    else:
        print_one(shown | {"routes": [one["name"] or one["id"] for one in shown["routes"]]})
    if not shown["reply"].startswith("2"):
        sys.exit(1)


def _given(context: click.Context, matching: Mapping[str, Any], actions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what was typed as the fields of JSON, upon the patterns and the actions that a route has."""
    typed = typed_options(context)
    given: dict[str, Any] = {name: typed[name] for name in PLAIN if name in typed}
    if typed.keys() & {"recipient", "header"}:
        given["match"] = dict(_patterns(typed, matching))
    if typed.keys() & {"store", "forward", "post", "form"}:
        now: dict[str, Any] = {kind: value for one in actions for kind, value in one.items()}
        given["actions"] = [{kind: value} for kind, value in _actions(typed, now)]
    return given


def _patterns(typed: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    recipient = typed.get("recipient", now.get("recipient"))
    if recipient:
        yield "recipient", recipient
    header = now.get("header")
    if "header" in typed:
        header = dict(zip(("name", "value"), _pair(typed["header"]), strict=True)) if typed["header"] else None
    if header:
        yield "header", header


def _actions(typed: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the kind and the value of each action."""
    store, post = typed.get("store"), now.get("post", {})
    if store:
        yield "store", {} if store == OWN else {"mailbox": store}
    elif store is None and "store" in now:
        yield "store", now["store"]
    if forward := [one for one in typed.get("forward", now.get("forward", ())) if one]:
        yield "forward", forward
    if url := typed.get("post", post.get("url")):
        yield "post", {"url": url, "form": typed.get("form", post.get("form", FORMS[0]))}
    elif "form" in typed:
        raise click.UsageError("--form is for a route that posts: see --post.")


def _pair(text: str) -> tuple[str, str]:
    """Return the name and the rest of ``NAME=REST``."""
    name, equals, rest = text.partition("=")
    if not equals:
        raise click.UsageError(f"--header {text!r}: must be the field's name, =, and its value: Subject='*help*'.")
    return name.strip(), rest


def _all(session: Session, tenant_id: UUID) -> list[repo.FoundRoute]:
    return all_pages(lambda after: repo.page(session, tenant_id, limit=PAGE, offset=0, after=after))


def _found(session: Session, tenant_id: UUID, called: str) -> repo.FoundRoute:
    """Return the route of that id or name. Raises :class:`NotFound`, and :class:`Conflict` if several have the name."""
    if identifier := uuid(called):
        return edit.found(session, tenant_id, identifier)
    named = [one for one in _all(session, tenant_id) if called and one.name == called]
    if len(named) > 1:
        raise Conflict(f"{len(named)} inbound routes are called {called!r}: name one by its id.")
    if not named:
        raise edit.missing()
    return named[0]


def _for_people(shown: Mapping[str, Any]) -> dict[str, Any]:
    """Return a route with its patterns and its actions as options of ``set`` have them."""
    match, told = shown["match"], []
    patterns = [f"recipient {match['recipient']}"] if "recipient" in match else []
    if "header" in match:
        patterns.append(f"header {match['header']['name']}={match['header']['value']}")
    for action in shown["actions"]:
        for kind, value in action.items():
            told += [f"{kind} {_words(kind, value)}"]
    return {**shown, "match": patterns or "all mail", "actions": told}


def _words(kind: str, value: Any) -> str:
    if kind == "store":
        return str(value.get("mailbox", OWN))
    return " ".join(value) if kind == "forward" else f"{value['url']} ({value['form']})"


def _print(shown: Any, as_json: bool) -> None:
    if as_json:
        print_json(shown)
    else:
        print_one(_for_people(shown))
