"""``mailbbgun batch``: lists batches, shows how far one is, and cancels it."""

from typing import Any
from uuid import UUID

import click

from mailbbgun.batches import cancel as cancelling
from mailbbgun.batches import repo
from mailbbgun.batches.schemas import BatchPage, BatchShape, CancelledBatch
from mailbbgun.cli.terminal import as_json, of_tenant, opened_for, print_json, print_one, print_page
from mailbbgun.core.caller import Caller, Scope
from mailbbgun.core.errors import NotFound

COLUMNS = ("created_at", "messages", "refused", "progress", "statuses", "subject", "id")

_batch = click.argument("batch_id", metavar="BATCH", type=click.UUID)


@click.group()
def batch() -> None:
    """Batches of a tenant, and how far they are.

    BATCH is the batch_id that POST /messages/batch answered.
    """


@batch.command("list")
@of_tenant
@click.option("--limit", type=click.IntRange(0, 1000), default=10, show_default=True, help="At most so many.")
@click.option("--after", type=click.UUID, help="Go on after this id.")
@as_json
def index(tenant: str, limit: int, after: UUID | None, as_json: bool) -> None:
    """List batches, newest first."""
    with opened_for(tenant) as (services, tenant_id), services.db.read(tenant_id) as session:
        found, count, last = repo.page(session, tenant_id, limit=limit, offset=0, after=after)
    shown: Any = BatchPage().dump({"batches": found, "count": count})
    if as_json:
        print_json(shown)
        return
    print_page([_for_people(one) for one in shown["batches"]], COLUMNS, count, last)


@batch.command()
@_batch
@of_tenant
@as_json
def show(batch_id: UUID, tenant: str, as_json: bool) -> None:
    """Show a batch and how far it is."""
    with opened_for(tenant) as (services, tenant_id), services.db.read(tenant_id) as session:
        found = repo.details(session, tenant_id, batch_id)
        if found is None:
            raise NotFound("There is no such batch.")
    shown: Any = BatchShape().dump(found)
    if as_json:
        print_json(shown)
    else:
        print_one(_for_people(shown))


@batch.command()
@_batch
@of_tenant
@as_json
def cancel(batch_id: UUID, tenant: str, as_json: bool) -> None:
    """Cancel the messages of a batch that have not left yet."""
    with opened_for(tenant) as (services, tenant_id):
        found = cancelling.cancel(services.db, Caller(tenant_id, scopes=frozenset(Scope)), batch_id)
    if as_json:
        print_json(CancelledBatch().dump(found))
    else:
        click.echo(f"{found['cancelled']} of {found['messages']} messages are cancelled")


def _for_people(one: dict[str, Any]) -> dict[str, Any]:
    statuses = " ".join(f"{status}={n}" for status, n in sorted(one["statuses"].items()))
    return {**one, "statuses": statuses or None, "progress": f"{one['progress']:.0%}"}
