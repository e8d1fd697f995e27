"""``mailbbgun tenant``: customers of the service."""

from typing import Any

import click

from mailbbgun.cli.terminal import (
    LIMIT,
    PAGE,
    Command,
    as_json,
    everything,
    given,
    judged,
    opened,
    print_json,
    print_one,
    print_table,
    tenant_called,
)
from mailbbgun.services import Services
from mailbbgun.tenants import repo
from mailbbgun.tenants.api import NewTenant, TenantChange, Tenants, TenantShape
from mailbbgun.tenants.models import ACTIVE, SUSPENDED

COLUMNS = ("name", "status", "max_requests_per_minute", "max_messages_per_day", "created_at", "id")


@click.group()
def tenant() -> None:
    """Who may send: tenants, each with keys, accounts and mail of its own."""


def _limits(command: Command) -> Command:
    requests = click.option("--max-requests-per-minute", type=LIMIT, help="Requests of all its keys together.")
    messages = click.option("--max-messages-per-day", type=LIMIT, help="Messages accepted in a day (UTC).")
    return requests(messages(command))


@tenant.command("list")
@as_json
def index(as_json: bool) -> None:
    """List all tenants, newest first."""
    with opened() as services, services.db.read() as session:
        found = everything(lambda after: repo.tenants(session, limit=PAGE, offset=0, after=after))
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
    wanted = judged(NewTenant(), _typed(context))
    with opened() as services:
        with services.db.write() as session:
            made = repo.add_tenant(session, wanted)
    _print(made, as_json)


@tenant.command()
@click.argument("tenant")
@as_json
def show(tenant: str, as_json: bool) -> None:
    """Show TENANT, which is a name or an id."""
    with opened() as services:
        _show(services, tenant, as_json)


@tenant.command("set")
@click.argument("tenant")
@click.option("--name", help="Rename it.")
@_limits
@as_json
@click.pass_context
def change(context: click.Context, /, tenant: str, as_json: bool, **_: Any) -> None:
    """Rename or limit TENANT, within a second in every process. A limit is lifted by none."""
    wanted = _typed(context)
    if not wanted:
        raise click.UsageError("Nothing is to be changed: see --help.")
    _change(tenant, wanted, as_json)


@tenant.command()
@click.argument("tenant")
@as_json
def suspend(tenant: str, as_json: bool) -> None:
    """Suspend TENANT: nothing new is accepted, and what waits is held."""
    _change(tenant, {"status": SUSPENDED}, as_json)


@tenant.command()
@click.argument("tenant")
@as_json
def resume(tenant: str, as_json: bool) -> None:
    """Let TENANT go on."""
    _change(tenant, {"status": ACTIVE}, as_json)


def _typed(context: click.Context) -> dict[str, Any]:
    return {name: value for name, value in given(context).items() if name not in ("tenant", "as_json")}


def _change(called: str, values: dict[str, Any], as_json: bool) -> None:
    wanted = judged(TenantChange(), values)
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
