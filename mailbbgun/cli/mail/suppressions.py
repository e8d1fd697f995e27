"""``mailbbgun suppression``: recipients that a tenant's mail must not go to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import click

from mailbbgun.cli.terminal import (
    PAGE,
    CallersPath,
    Command,
    all_pages,
    as_json,
    as_usage_error,
    of_tenant,
    opened_for,
    print_json,
    print_table,
    typed_options,
    validated,
)
from mailbbgun.core.errors import InvalidInput, NotFound
from mailbbgun.suppressions import repo, transfer
from mailbbgun.suppressions.schemas import Imported, NewSuppressions, Outcome, SuppressionFilters, Suppressions
from mailbbgun.suppressions.suppress import suppress

COLUMNS = ("address", "domain", "reason", "created_at", "expires_at", "id")

_tests = click.option("--test", "test", is_flag=True, help="The list of test keys, which concerns only test mail.")


@click.group()
def suppression() -> None:
    """Recipients that nothing is sent to: addresses and whole domains."""


@suppression.command("list")
@of_tenant
@_tests
@click.option("--address", help="The one of this address.")
@click.option("--domain", help="The one of this whole domain.")
@click.option("--reason", help="Those with exactly this reason.")
@as_json
@click.pass_context
def index(context: click.Context, /, tenant: str, test: bool, as_json: bool, **_: Any) -> None:
    """List suppressions, newest first."""
    typed = {name: value for name, value in typed_options(context).items() if name in ("address", "domain", "reason")}
    wanted = validated(SuppressionFilters(), typed)
    filters = {name: wanted[name] for name in ("target", "reason") if wanted.get(name) is not None}
    with opened_for(tenant) as (services, tenant_id), services.db.read(tenant_id) as session:
        found = all_pages(
            lambda after: repo.page(session, tenant_id, test, limit=PAGE, offset=0, after=after, **filters)
        )
    shown: Any = Suppressions().dump({"suppressions": found, "count": len(found)})
    if as_json:
        print_json(shown)
    else:
        print_table(shown["suppressions"], COLUMNS)


def _reason_and_end(command: Command) -> Command:
    reason = click.option("--reason", help="Why; lists can be filtered by it.  [default: manual]")
    until = click.option("--expires-at", "expires_at", metavar="TIME", help="From then on mail goes there again.")
    return reason(until(command))


@suppression.command()
@click.argument("recipients", nargs=-1, required=True, metavar="ADDRESS-OR-DOMAIN...")
@of_tenant
@_tests
@_reason_and_end
@as_json
@click.pass_context
def add(
    context: click.Context, /, recipients: tuple[str, ...], tenant: str, test: bool, as_json: bool, **_: Any
) -> None:
    """Suppress addresses and domains, and stop mail to them that waits.

    What is known already gets the new reason and end.
    """
    typed = {name: value for name, value in typed_options(context).items() if name in ("reason", "expires_at")}
    wanted = [{"address" if "@" in one[1:] else "domain": one} | typed for one in recipients]
    entries = validated(NewSuppressions(), {"suppressions": wanted})
    with opened_for(tenant) as (services, tenant_id):
        done = suppress(services.db, tenant_id, entries, test=test)
    _print_outcome(Outcome().dump(done._asdict()), as_json)


@suppression.command()
@click.argument("recipients", nargs=-1, required=True, metavar="ADDRESS-OR-DOMAIN...")
@of_tenant
@_tests
def remove(recipients: tuple[str, ...], tenant: str, test: bool) -> None:
    """Take addresses and domains off the list: new mail goes there again."""
    entries = validated(
        NewSuppressions(), {"suppressions": [{"address" if "@" in one[1:] else "domain": one} for one in recipients]}
    )
    with opened_for(tenant) as (services, tenant_id), services.db.write(tenant_id) as session:
        for entry in entries:
            found = repo.by_target(session, tenant_id, test, entry.target)
            if found is None:
                raise NotFound(f"{entry.target} is not on the list; nothing is removed.")
            repo.remove(session, tenant_id, test, found.id)
    click.echo(f"{len(entries)} removed")


@suppression.command("import")
@click.argument("file", type=CallersPath(exists=True))
@of_tenant
@_tests
@as_json
def import_csv(file: Path, tenant: str, test: bool, as_json: bool) -> None:
    """Suppress what the CSV FILE lists; /dev/stdin is the standard input.

    Its first line names the columns: address (or email) or domain, and if wanted reason and
    expires_at. Rows that are wrong are left out and told of.
    """
    with opened_for(tenant) as (services, tenant_id), as_usage_error(), file.open("rb") as csv:
        done = transfer.read(services.db, tenant_id, _lines(csv), test=test)
    shown: Any = Imported().dump(done)
    if not as_json:
        for one in shown["errors"]:
            click.echo(f"line {one['line']}: {one['message']}", err=True)
        if done.rejected:
            click.echo(f"{done.rejected} rejected", err=True)
    _print_outcome(shown, as_json)


@suppression.command("export")
@of_tenant
@_tests
def export_csv(tenant: str, test: bool) -> None:
    """Print all suppressions as CSV, newest first."""
    with opened_for(tenant) as (services, tenant_id):
        for lines in transfer.write(services.db, tenant_id, test=test):
            click.echo(lines, nl=False)


def _lines(file: BinaryIO) -> Iterator[str]:
    try:
        yield from transfer.lines_of(file)
    except UnicodeDecodeError as error:
        raise InvalidInput("not in UTF-8", fields={"csv": ["Is not in UTF-8."]}) from error


def _print_outcome(shown: Any, as_json: bool) -> None:
    if as_json:
        print_json(shown)
        return
    stopped = f"{shown['stopped']} waiting deliveries stopped"
    in_hand = f", {shown['in_hand']} being sent at this moment" if shown["in_hand"] else ""
    click.echo(f"{shown['added']} added, {shown['changed']} changed; {stopped}{in_hand}")
