"""``mailbbgun account``: SMTP accounts. No command prints a password, nor takes one as an argument; what is encrypted is never read here."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TextIO
from uuid import UUID

import click
from sqlalchemy.orm import Session

from mailbbgun.base.clock import rfc3339
from mailbbgun.base.db import ENCRYPTED, db_now
from mailbbgun.base.errors import NotFound
from mailbbgun.base.ids import new_id
from mailbbgun.base.net import Allowed, Guard
from mailbbgun.cli.terminal import (
    PAGE,
    as_json,
    everything,
    given,
    judged,
    judging,
    of_tenant,
    opened,
    options_of,
    print_json,
    print_one,
    print_table,
    tenant_called,
    uuid,
)
from mailbbgun.services import Services
from mailbbgun.smtp_accounts import edit, repo
from mailbbgun.smtp_accounts.models import SMTPAccount
from mailbbgun.smtp_accounts.presets import PRESETS
from mailbbgun.smtp_accounts.schemas import NewAccount

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
@click.argument("setting_name")
@of_tenant
@options_of(NewAccount(), "setting_name", "smtp_password", "ca_certificate")
@click.option("--password-file", type=click.File(), help="Whose first line is the password; - is standard input. By default you are asked.")
@click.option("--ca-file", type=click.File(), help="PEM of the authorities its certificate must come from, instead of the system's.")
@as_json
@click.pass_context
def create(context: click.Context, /, tenant: str, password_file: TextIO | None, ca_file: TextIO | None, as_json: bool, **_: Any) -> None:
    """Set up an account called SETTING_NAME. Its password is never an argument, which others on this machine could read."""
    wanted = {name: value for name, value in given(context).items() if name not in ("tenant", "password_file", "ca_file", "as_json")}
    wanted |= {"setting_name": context.params["setting_name"]} | ({"ca_certificate": ca_file.read()} if ca_file else {})
    if password_file is not None:
        wanted["smtp_password"] = password_file.readline().rstrip("\r\n")
    elif "smtp_username" in wanted or ("preset" in wanted and PRESETS[wanted["preset"]].username):
        wanted["smtp_password"] = _asked_password()
    wanted = judged(NewAccount(), wanted)
    with _opened(tenant) as (services, its), judging():
        values = edit.filled(wanted, Guard(allowed=Allowed.read(services.settings.ALLOW_PRIVATE_HOSTS)))
        with services.db.write(its) as session:
            edit.create(session, services.vault, its, new_id(), values)
        _print(services, its, wanted["setting_name"], as_json)


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
        if not yes and not _confirmed(f"Delete the account {found.setting_name} ({found.smtp_host}) and its password?"):
            click.echo("nothing was deleted", err=True)
            sys.exit(1)
        with services.db.write(its) as session:
            repo.remove(session, its, found.id)
    click.echo(f"deleted {found.setting_name}")


def _asked_password() -> str:
    """Ask for a password at the terminal. Raises :class:`click.UsageError` without one: there its letters would be shown, or nobody asked."""
    if not sys.stdin.isatty():
        raise click.UsageError(
            "There is no terminal to ask for the password at: --password-file FILE reads it from the first line of a file, "
            "--password-file - from standard input."
        )
    password: str = click.prompt("Password", hide_input=True, err=True)
    return password


def _confirmed(question: str) -> bool:
    """Ask for a yes, which may also come through a pipe. Raises :class:`click.UsageError` if nobody is there to give an answer."""
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        if sys.stdin.isatty():  # Ctrl-C
            raise
        click.echo(err=True)
        raise click.UsageError("There is nobody to confirm it: --yes does not ask.") from None


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
