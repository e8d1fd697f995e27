"""``mailbbgun key``: API keys.

A new key is printed once. With ``--quiet`` nothing else is printed, for ``KEY=$(bin/mailbbgun key
create --admin --quiet)``.
"""

from datetime import datetime
from typing import Any

import click
from sqlalchemy import select
from sqlalchemy.orm import Session

from mailbbgun.cli.terminal import (
    LIMIT,
    PAGE,
    all_pages,
    as_json,
    of_tenant,
    opened,
    print_json,
    print_one,
    print_table,
    tenant_called,
    typed_options,
    uuid,
    validated,
)
from mailbbgun.core.caller import DuplicatePolicy, KeyKind, Scope
from mailbbgun.core.errors import NotFound
from mailbbgun.core.process import check_output, printed_or_undone
from mailbbgun.database.db import db_now
from mailbbgun.services import Services
from mailbbgun.tenants import keys, repo
from mailbbgun.tenants.models import ApiKey
from mailbbgun.tenants.schemas import (
    MOST_DUPLICATE_SECONDS,
    Keys,
    KeyShape,
    MintedKey,
    NewKey,
    Rotation,
    shown_once,
)

COLUMNS = ("prefix", "name", "kind", "scopes", "last_used_at", "expires_at", "revoked_at", "id")
FIELDS = {
    "scope": "scopes",
    "sender": "senders",
    "network": "networks",
    "guest": "guests",
    "expires": "expires_at",
}  # option → field of the API
NAME = "command line"

_quiet = click.option("--quiet", "-q", is_flag=True, help="Print the new key and nothing else.")


@click.group()
def key() -> None:
    """API keys of tenants. KEY is a key's id or its prefix, as in mbg_<prefix>_…"""


@key.command("list")
@of_tenant
@click.option(
    "--all",
    "every",
    is_flag=True,
    help="List the keys of all tenants, with tenant and state: active, expired or revoked.",
)
@as_json
@click.pass_context
def index(context: click.Context, /, tenant: str, every: bool, as_json: bool) -> None:
    """List all keys of a tenant, newest first, including expired and revoked ones."""
    if every and "tenant" in typed_options(context):
        raise click.UsageError("--all is of every tenant, --tenant of one; give one or the other.")
    with opened() as services, services.db.read() as session:
        tenant_id = None if every else tenant_called(session, tenant).id
        found = all_pages(lambda after: repo.keys(session, tenant_id, limit=PAGE, offset=0, after=after))
        names = repo.names(session, {one.tenant_id for one in found}) if every else {}
        now = session.scalars(select(db_now())).one()
    shown: Any = Keys().dump({"keys": found, "count": len(found)})
    if every:
        more = [{"tenant": names[one.tenant_id], "state": _state(one, now)} for one in found]
        shown["keys"] = [listed | told for listed, told in zip(shown["keys"], more, strict=True)]
    if as_json:
        print_json(shown)
    else:
        print_table(shown["keys"], ("tenant", "state", *COLUMNS) if every else COLUMNS)


@key.command()
@of_tenant
@click.option("--name", help=f"What the key is for.  [default: {NAME}, or {keys.ADMIN.name}]")
@click.option(
    "--kind",
    type=click.Choice([kind.value for kind in KeyKind]),
    help="live (the default); test: all mail goes to the catcher; team: mail may go to guests only.",
)
@click.option(
    "--scope",
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="What the key may do; by default send and read mail.",
)
@click.option("--admin", is_flag=True, help="The key may do everything: all scopes.")
@click.option("--sender", multiple=True, help="From must be this address, or an address of this domain.")
@click.option("--network", multiple=True, help="Requests must come from this network, such as 192.0.2.0/24.")
@click.option("--guest", multiple=True, help="For a team key: an address or domain it may send to.")
@click.option("--max-requests-per-minute", type=LIMIT, help="Most requests a minute with this key.")
@click.option(
    "--duplicate-seconds",
    type=click.IntRange(0, MOST_DUPLICATE_SECONDS),
    help="For how many seconds the same mail to the same recipients is not sent again; 0: off.",
)
@click.option(
    "--duplicate-policy",
    type=click.Choice([policy.value for policy in DuplicatePolicy]),
    help="answer (the default): a duplicate is answered with the first message's id; "
    "hold: it is stored, and sent only if somebody retries it.",
)
@click.option(
    "--expires", metavar="TIME", help="When the key ends: an RFC 3339 time such as 2026-12-31T12:00:00Z, or a date."
)
@_quiet
@as_json
@click.pass_context
def create(context: click.Context, /, tenant: str, admin: bool, quiet: bool, as_json: bool, **_: Any) -> None:
    """Make a key for a tenant and print it, this once.

    Options that take several values (--scope, --sender …) may be repeated.
    """
    wanted = {
        FIELDS.get(name, name): value
        for name, value in typed_options(context).items()
        if name not in ("tenant", "admin", "quiet", "as_json")
    }
    if admin and "scopes" in wanted:
        raise click.UsageError("--admin is every --scope; give one or the other.")
    scopes = {"scopes": list(keys.ADMIN.scopes)} if admin else {}
    spec = validated(NewKey(), {"name": keys.ADMIN.name if admin else NAME} | scopes | wanted)
    with opened() as services:
        check_output("the new key")
        with services.db.write() as session:
            minted = keys.create(session, services.vault, tenant_called(session, tenant).id, spec)
        _print_new(services, minted, quiet, as_json)


@key.command()
@click.argument("key", metavar="KEY")
@as_json
def show(key: str, as_json: bool) -> None:
    """Show a key without its secret, which is stored nowhere."""
    with opened() as services, services.db.read() as session:
        _print(_found(session, key), as_json)


@key.command()
@click.argument("key", metavar="KEY")
@as_json
def revoke(key: str, as_json: bool) -> None:
    """Revoke a key. Every process refuses it within a second."""
    with opened() as services:
        with services.db.write() as session:
            found = _found(session, key)
            repo.revoke(session, found.tenant_id, found.id)
        with services.db.read() as session:
            _print(_found(session, key), as_json)


@key.command()
@click.argument("key", metavar="KEY")
@click.option("--hours", type=int, default=24, show_default=True, help="Hours for which the old key keeps working.")
@_quiet
@as_json
def rotate(key: str, hours: int, quiet: bool, as_json: bool) -> None:
    """Make a key like another one and print it, this once."""
    seconds = validated(Rotation(), {"hours": hours})["hours"] * 3600
    with opened() as services:
        check_output("the new key")
        with services.db.write() as session:
            old = _found(session, key)
            rotated = keys.Rotated(old.id, old.expires_at)
            minted = keys.rotate(session, services.vault, old.tenant_id, old.id, seconds)
        _print_new(services, minted, quiet, as_json, rotated)


def _state(key: ApiKey, now: datetime) -> str:
    if key.revoked_at is not None and key.revoked_at <= now:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= now else "active"


def _found(session: Session, shown: str) -> ApiKey:
    found = repo.key_by_id_or_prefix(session, uuid(shown) or shown.removeprefix("mbg_").partition("_")[0])
    if found is None:
        raise NotFound("There is no such key.")
    return found


def _print(key: ApiKey, as_json: bool) -> None:
    shown: Any = KeyShape().dump(key)
    if as_json:
        print_json(shown)
    else:
        print_one(shown)


def _print_new(
    services: Services, minted: keys.Minted, quiet: bool, as_json: bool, rotated: keys.Rotated | None = None
) -> None:
    """Print a new key, this once.

    If it cannot be printed, it is revoked, and the key that it was to replace stays as it was.
    """

    def take_back() -> None:
        with services.db.write() as session:
            keys.take_back(session, minted, rotated)

    shown: Any = MintedKey().dump(shown_once(minted))
    with printed_or_undone(f"the new key mbg_{minted.key.prefix}_…", take_back):
        if quiet:
            click.echo(minted.token)
        elif as_json:
            print_json(shown)
        else:
            print_one(shown)
    if not quiet and not as_json:
        click.echo("Keep the key: it is told this once.", err=True)
