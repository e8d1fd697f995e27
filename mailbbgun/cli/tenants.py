"""``mailbbgun tenant``: customers of the service."""

from typing import Any

import click

from mailbbgun.cli.terminal import (
    LIMIT,
    PAGE,
    Command,
    all_pages,
    as_json,
    opened,
    print_json,
    print_one,
    print_table,
    tenant_called,
    typed_options,
    validated,
)
from mailbbgun.services import Services
from mailbbgun.tenants import repo
from mailbbgun.tenants.models import ACTIVE, SUSPENDED
from mailbbgun.tenants.schemas import NewTenant, TenantChange, Tenants, TenantShape

COLUMNS = (
    "name",
    "status",
    "max_requests_per_minute",
    "max_messages_per_day",
    "max_storage",
    "storage_used",
    "created_at",
    "id",
)


@click.group()
def tenant() -> None:
    """Tenants: who may send. Each has keys, accounts and mail of its own."""


def _limits(command: Command) -> Command:
    requests = click.option(
        "--max-requests-per-minute", type=LIMIT, help="Most requests a minute, of all its keys together."
    )
    messages = click.option("--max-messages-per-day", type=LIMIT, help="Most messages accepted in a day (UTC).")
    storage = click.option("--max-storage", type=LIMIT, help="Most bytes of all its files together.")
    return requests(messages(storage(command)))


@tenant.command("list")
@as_json
def index(as_json: bool) -> None:
    """List all tenants, newest first."""
    with opened() as services, services.db.read() as session:
        found = all_pages(lambda after: repo.tenants(session, limit=PAGE, offset=0, after=after))
    shown: Any = Tenants().dump({"tenants": found, "count": len(found)})
    if as_json:
        print_json(shown)
    else:
        print_table(shown["tenants"], COLUMNS)


@tenant.command()
@click.argument("name")
@_limits
@as_json
@click.pass_context
def create(context: click.Context, /, as_json: bool, **_: Any) -> None:
    """Add the tenant NAME."""
    wanted = validated(NewTenant(), _typed(context))
    with opened() as services:
        with services.db.write() as session:
            made = repo.add_tenant(session, wanted).id
        _show(services, str(made), as_json)


@tenant.command()
@click.argument("tenant")
@as_json
def show(tenant: str, as_json: bool) -> None:
    """Show TENANT, which is a name or an id."""
    with opened() as services:
        _show(services, tenant, as_json)


@tenant.command("set")
@click.argument("tenant")
@click.option("--name", help="The new name.")
@_limits
@as_json
@click.pass_context
def change(context: click.Context, /, tenant: str, as_json: bool, **_: Any) -> None:
    """Rename TENANT or change its limits.

    Every process follows within a second. "none" lifts a limit.
    """
    wanted = _typed(context)
    if not wanted:
        raise click.UsageError("Nothing is to be changed: see --help.")
    _change(tenant, wanted, as_json)


@tenant.command()
@click.argument("tenant")
@as_json
def suspend(tenant: str, as_json: bool) -> None:
    """Suspend TENANT: nothing new is accepted, and pending mail is held."""
    _change(tenant, {"status": SUSPENDED}, as_json)


@tenant.command()
@click.argument("tenant")
@as_json
def resume(tenant: str, as_json: bool) -> None:
    """Lift the suspension of TENANT."""
    _change(tenant, {"status": ACTIVE}, as_json)


def _typed(context: click.Context) -> dict[str, Any]:
    return {name: value for name, value in typed_options(context).items() if name not in ("tenant", "as_json")}


def _change(called: str, values: dict[str, Any], as_json: bool) -> None:
    wanted = validated(TenantChange(), values)
    with opened() as services:
        with services.db.write() as session:
            identifier = tenant_called(session, called).id
            repo.change_tenant(session, identifier, wanted)
        _show(services, str(identifier), as_json)


def _show(services: Services, called: str, as_json: bool) -> None:
    with services.db.read() as session:
        _print(tenant_called(session, called), as_json)


def _print(tenant: Any, as_json: bool) -> None:
    shown: Any = TenantShape().dump(tenant)
    if as_json:
        print_json(shown)
    else:
        print_one({name: shown[name] for name in COLUMNS})
