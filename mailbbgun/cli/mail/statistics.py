"""``mailbbgun statistics``: show the figures of a tenant, or count its log again."""

from datetime import UTC, datetime
from typing import Any

import click

from mailbbgun.cli.terminal import (
    as_json,
    as_usage_error,
    filters_of,
    of_tenant,
    opened_for,
    print_json,
    print_one,
    print_table,
    typed_options,
    validated,
)
from mailbbgun.core.clock import rfc3339
from mailbbgun.core.ids import new_id
from mailbbgun.statistics import figures
from mailbbgun.statistics.rebuild import rebuild as count_again
from mailbbgun.statistics.schemas import StatisticsQuery, dumped

COLUMNS = ("messages", "accepted", "delivered", "failed", "deferred")
TIMES = tuple(f"time_to_deliver_{name}" for name in figures.PERCENTILES)


@click.group()
def statistics() -> None:
    """How much a tenant sent, what became of it, and how long that took."""


@statistics.command()
@of_tenant
@filters_of(StatisticsQuery())
@as_json
@click.pass_context
def show(context: click.Context, /, tenant: str, as_json: bool, **_: Any) -> None:
    """Show the figures of a period, by the parameters of GET /statistics."""
    typed = {name: value for name, value in typed_options(context).items() if name not in ("tenant", "as_json")}
    asked = validated(StatisticsQuery(), typed)
    with opened_for(tenant) as (services, tenant_id), services.db.read(tenant_id) as session:
        with as_usage_error():
            question = figures.question(tenant_id, False, asked, services.settings, datetime.now(UTC))
        found = figures.answer(session, question)
    if as_json:
        print_json(dumped(found))
        return
    rows = found["points"] if found["groups"] is None else found["groups"]
    by_status = question.group_by == "status"
    label = "at" if found["groups"] is None else "name"
    columns = ("name", "reason", "deliveries", "rate") if by_status else (label, *COLUMNS, *TIMES)
    print_table([figures.flat(one) for one in rows], columns)
    if not by_status:
        click.echo()
        print_one({name: value for name, value in figures.flat(found["total"]).items() if name in (*COLUMNS, *TIMES)})


@statistics.command()
@of_tenant
def rebuild(tenant: str) -> None:
    """Count the log of a tenant again.

    Until that is done the figures are incomplete. Those of days from which events or messages may have
    been deleted (EVENT_DAYS, METADATA_DAYS) stay as they are. If it is killed, the workers go on.
    """
    with opened_for(tenant) as (services, tenant_id):
        since = count_again(services.db, services.settings, tenant_id, new_id())
    begin = "the beginning" if since is None else rfc3339(datetime.fromtimestamp(since, UTC))
    click.echo(f"counted again from {begin} on")
