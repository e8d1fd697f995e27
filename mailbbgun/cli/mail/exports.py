"""``mailbbgun export``: write all messages, events or statistics of a tenant to the standard output."""

import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import click

from mailbbgun.cli.terminal import as_usage_error, filters_of, of_tenant, opened_for, typed_options, validated
from mailbbgun.exports import pages
from mailbbgun.exports.schemas import EventsExport, MessagesExport, StatisticsExport, event_filters
from mailbbgun.exports.writing import NDJSON, lines
from mailbbgun.messages.repo import Wanted
from mailbbgun.services import Services
from mailbbgun.statistics import figures

#: What is exported, and the columns of CSV.
Export = tuple[Iterator[pages.Page], Sequence[str]]


@click.group()
def export() -> None:
    """Write all messages, events or statistics of a tenant as NDJSON or CSV."""


@export.command()
@of_tenant
@filters_of(MessagesExport())
@click.pass_context
def messages(context: click.Context, /, tenant: str, **_: Any) -> None:
    """Write all messages that match, newest first."""

    def found(services: Services, tenant_id: UUID, asked: dict[str, Any]) -> Export:
        wanted = Wanted(tenant_id=tenant_id, limit=0, offset=0, after=None, **asked)
        return pages.messages(partial(services.db.read, tenant_id), wanted), pages.MESSAGE_COLUMNS

    _write(context, tenant, MessagesExport(), found)


@export.command()
@of_tenant
@filters_of(EventsExport())
@click.pass_context
def events(context: click.Context, /, tenant: str, **_: Any) -> None:
    """Write all events that match, oldest first."""

    def found(services: Services, tenant_id: UUID, asked: dict[str, Any]) -> Export:
        filters = event_filters(asked)
        return pages.events(services.db, tenant_id, filters), pages.EVENT_COLUMNS

    _write(context, tenant, EventsExport(), found)


@export.command("statistics")
@of_tenant
@filters_of(StatisticsExport())
@click.pass_context
def statistics_(context: click.Context, /, tenant: str, **_: Any) -> None:
    """Write the figures of each interval, oldest first."""

    def found(services: Services, tenant_id: UUID, asked: dict[str, Any]) -> Export:
        with as_usage_error():
            question = figures.question(tenant_id, False, asked, services.settings, datetime.now(UTC))
        return pages.statistics(partial(services.db.read, tenant_id), question), pages.columns_of(question)

    _write(context, tenant, StatisticsExport(), found)


def _write(
    context: click.Context, tenant: str, schema: Any, found: Callable[[Services, UUID, dict[str, Any]], Export]
) -> None:
    typed = {name: value for name, value in typed_options(context).items() if name != "tenant"}
    asked = validated(schema, typed)
    form = asked.pop("format") or NDJSON
    with opened_for(tenant) as (services, tenant_id):
        rows, columns = found(services, tenant_id, asked)
        for piece in lines(rows, form, columns):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
