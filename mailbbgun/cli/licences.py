"""``mailbbgun licence``: licences of a tenant's customers, and the keys that sign them."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import click
from sqlalchemy.orm import Session

from mailbbgun.cli.terminal import (
    PAGE,
    all_pages,
    as_json,
    as_usage_error,
    of_tenant,
    opened,
    opened_for,
    options_of,
    print_json,
    print_one,
    print_table,
    validated,
)
from mailbbgun.core.ids import new_id
from mailbbgun.licences import issue as issuing
from mailbbgun.licences import keys, repo, seats
from mailbbgun.licences.models import Licence
from mailbbgun.licences.schemas import (
    FullLicence,
    LicenceFilters,
    LicenceQuestion,
    Licences,
    LicenceVerdict,
    NewLicence,
    Renewal,
    Revocation,
)
from mailbbgun.licences.state import standing
from mailbbgun.services import Services

COLUMNS = ("subject", "type", "status", "seats", "email", "expires_at", "id")

_quiet = click.option("--quiet", "-q", is_flag=True, help="Print the token and nothing else.")
_feature = click.option("--feature", "features", multiple=True, help="What it enables; may be repeated.")
_id = click.argument("licence_id", metavar="LICENCE", type=click.UUID)


@click.group()
def licence() -> None:
    """Licences: signed tokens for your customers. LICENCE is an id."""


@licence.command("list")
@options_of(LicenceFilters(), "limit", "offset", "after")
@of_tenant
@as_json
def index(tenant: str, as_json: bool, **filters: str | None) -> None:
    """List the licences of a tenant that match, newest first."""
    given = {name: value for name, value in filters.items() if value is not None}
    with opened_for(tenant) as (services, tenant_id), services.db.read(tenant_id) as session:
        found = all_pages(lambda after: repo.page(session, tenant_id, limit=PAGE, offset=0, after=after, **given))
        rows = [_values(session, one) for one in found]
    shown: Any = Licences().dump({"licences": rows, "count": len(rows)})
    if as_json:
        print_json(shown)
    else:
        print_table(shown["licences"], COLUMNS)


@licence.command()
@options_of(NewLicence(), "features", "notes")
@_feature
@_quiet
@of_tenant
@as_json
@click.pass_context
def issue(context: click.Context, /, tenant: str, quiet: bool, as_json: bool, **_: Any) -> None:
    """Issue a licence and print it with its token."""
    wanted = validated(NewLicence(), _given(context))
    with opened_for(tenant) as (services, tenant_id), as_usage_error():
        iss = issuing.issuer(services.settings)
        with services.db.write(tenant_id) as session:
            made = issuing.issue(session, services.vault, iss, tenant_id, new_id(), wanted)
        _print(services, tenant_id, made.id, as_json, quiet=quiet)


@licence.command()
@_id
@of_tenant
@as_json
def show(licence_id: UUID, tenant: str, as_json: bool) -> None:
    """Show a licence, its token and its machines."""
    with opened_for(tenant) as (services, tenant_id):
        _print(services, tenant_id, licence_id, as_json)


@licence.command()
@_id
@options_of(Renewal(), "features", "notes")
@_feature
@_quiet
@of_tenant
@as_json
@click.pass_context
def renew(context: click.Context, /, licence_id: UUID, tenant: str, quiet: bool, as_json: bool, **_: Any) -> None:
    """Issue a licence in place of another one. What is not given is as before."""
    wanted = validated(Renewal(), _given(context))
    with opened_for(tenant) as (services, tenant_id), as_usage_error():
        iss = issuing.issuer(services.settings)
        with services.db.write(tenant_id) as session:
            before = issuing.found(session, tenant_id, licence_id)
            made = issuing.renew(session, services.vault, iss, before, new_id(), wanted)
        _print(services, tenant_id, made.id, as_json, quiet=quiet)


@licence.command()
@_id
@options_of(Revocation())
@of_tenant
@as_json
@click.pass_context
def revoke(context: click.Context, /, licence_id: UUID, tenant: str, as_json: bool, **_: Any) -> None:
    """Revoke a licence, its renewals and what it renewed."""
    wanted = validated(Revocation(), _given(context))
    with opened_for(tenant) as (services, tenant_id):
        with services.db.write(tenant_id) as session:
            issuing.revoke(session, tenant_id, licence_id, wanted.get("reason"))
        _print(services, tenant_id, licence_id, as_json)


@licence.command()
@click.argument("token")
@as_json
def verify(token: str, as_json: bool) -> None:
    """Say whether TOKEN is in force, and what it allows. The exit code is 1 if it is not."""
    validated(LicenceQuestion(), {"token": token})
    with opened() as services:
        verdict: Any = LicenceVerdict().dump(seats.verify(services, token, None))
    if as_json:
        print_json(verdict)
    else:
        print_one(verdict)
    if not verdict["valid"]:
        raise SystemExit(1)


@licence.command("rotate-key")
def rotate_key() -> None:
    """Make a new key, which signs from now on, for all tenants.

    Earlier tokens stay valid: the public halves of their keys stay published. The private ones are deleted.
    """
    with opened() as services, services.db.write() as session:
        kid = keys.rotate(session, services.vault)
    click.echo(f"{kid} signs now")


def _given(context: click.Context) -> dict[str, Any]:
    """Return the fields that were typed."""
    given = {name: value for name, value in context.params.items() if value not in (None, ())}
    given = {name: value for name, value in given.items() if name not in ("tenant", "quiet", "as_json", "licence_id")}
    return given | ({"features": list(given["features"])} if "features" in given else {})


def _values(session: Session, one: Licence) -> dict[str, Any]:
    columns = {column.key: getattr(one, column.key) for column in Licence.__mapper__.column_attrs}
    return columns | {"status": standing(one, repo.now(session))}


def _print(services: Services, tenant_id: UUID, licence_id: UUID, as_json: bool, *, quiet: bool = False) -> None:
    with services.db.read(tenant_id) as session:
        found = issuing.found(session, tenant_id, licence_id)
        machines = repo.activations(session, tenant_id, found.root_id)
        token = services.vault.decrypt(found.token)
        values: Mapping[str, Any] = _values(session, found) | {"token": token, "activations": machines}
    shown: Any = FullLicence().dump(values)
    if quiet:
        click.echo(token)
    elif as_json:
        print_json(shown)
    else:
        print_one(shown)
