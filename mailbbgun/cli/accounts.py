"""``mailbbgun account``: SMTP accounts. No command prints a password; what is encrypted is never read here."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import click
from sqlalchemy.orm import Session

from mailbbgun.base.clock import rfc3339
from mailbbgun.base.db import ENCRYPTED, db_now
from mailbbgun.base.errors import NotFound
from mailbbgun.cli.terminal import PAGE, as_json, everything, of_tenant, opened, print_json, print_one, print_table, tenant_called, uuid
from mailbbgun.services import Services
from mailbbgun.smtp_accounts import repo
from mailbbgun.smtp_accounts.models import SMTPAccount

COLUMNS = ("setting_name", "smtp_host", "smtp_port", "security_protocol", "smtp_username", "from_email", "priority", "weight", "enabled", "id")
SHOWN = tuple(column.name for column in SMTPAccount.__table__.columns if ENCRYPTED not in column.info and column.name != "tenant_id")


@click.group()
def account() -> None:
    """SMTP accounts: the servers that mail of a tenant leaves through. ACCOUNT is its setting_name, or its id."""


@account.command("list")
@of_tenant
@as_json
def index(tenant: str, as_json: bool) -> None:
    """List all accounts of a tenant, newest first."""
    with _opened(tenant) as (services, its), services.db.read(its) as session:
        shown = [_shown(one) for one in everything(lambda after: repo.accounts(session, its, limit=PAGE, offset=0, after=after))]
    if as_json:
        print_json({"smtp_accounts": shown, "count": len(shown)})
    else:
        print_table(shown, COLUMNS)


@account.command()
@click.argument("account")
@of_tenant
@as_json
def show(account: str, tenant: str, as_json: bool) -> None:
    """Show an account."""
    with _opened(tenant) as (services, its):
        _print(services, its, account, as_json)


@account.command()
@click.argument("account")
@of_tenant
@as_json
def enable(account: str, tenant: str, as_json: bool) -> None:
    """Let mail leave through an account again."""
    _switch(account, tenant, as_json, enabled=True)


@account.command()
@click.argument("account")
@of_tenant
@as_json
def disable(account: str, tenant: str, as_json: bool) -> None:
    """Let no mail leave through an account."""
    _switch(account, tenant, as_json, enabled=False)


@account.command()
@click.argument("account")
@of_tenant
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(account: str, tenant: str, yes: bool) -> None:
    """Delete an account and its password."""
    with _opened(tenant) as (services, its):
        with services.db.read(its) as session:
            found = _found(session, its, account)
        if not yes:
            click.confirm(f"Delete the account {found.setting_name} ({found.smtp_host}) and its password?", abort=True, err=True)
        with services.db.write(its) as session:
            repo.remove(session, its, found.id)
    click.echo(f"deleted {found.setting_name}")


@contextmanager
def _opened(tenant: str) -> Iterator[tuple[Services, UUID]]:
    with opened() as services:
        with services.db.read() as session:
            its = tenant_called(session, tenant).id
        yield services, its


def _found(session: Session, tenant_id: UUID, called: str) -> SMTPAccount:
    identifier = uuid(called)
    found = (repo.account(session, tenant_id, identifier) if identifier else None) or repo.account_named(session, tenant_id, called)
    if found is None:
        raise NotFound(f"There is no account {called!r}.")
    return found


def _switch(called: str, tenant: str, as_json: bool, *, enabled: bool) -> None:
    with _opened(tenant) as (services, its):
        with services.db.write(its) as session:
            repo.change(session, its, _found(session, its, called).id, {"enabled": enabled, "updated_at": db_now()})
        _print(services, its, called, as_json)


def _print(services: Services, tenant_id: UUID, called: str, as_json: bool) -> None:
    with services.db.read(tenant_id) as session:
        shown = _shown(_found(session, tenant_id, called))
    if as_json:
        print_json(shown)
    else:
        print_one(shown)


def _shown(account: SMTPAccount) -> dict[str, Any]:
    values = {name: getattr(account, name) for name in SHOWN}
    return {name: rfc3339(value) if isinstance(value, datetime) else value for name, value in values.items()}
