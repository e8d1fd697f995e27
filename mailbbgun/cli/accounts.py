"""``mailbbgun account``: SMTP accounts.

No command prints a password or takes one as an argument. Only ``account test`` decrypts one.
"""

import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TextIO
from uuid import UUID

import click
from sqlalchemy.orm import Session

from mailbbgun.cli.terminal import (
    PAGE,
    all_pages,
    as_json,
    as_usage_error,
    confirm_deletion,
    of_tenant,
    opened_for,
    options_of,
    print_json,
    print_one,
    print_table,
    typed_options,
    uuid,
    validated,
)
from mailbbgun.composing import mime
from mailbbgun.core.clock import rfc3339
from mailbbgun.core.errors import NotFound, Unavailable
from mailbbgun.core.ids import new_id
from mailbbgun.core.net import Allowed, Guard
from mailbbgun.database.db import ENCRYPTED, db_now
from mailbbgun.http.bad_input import printable
from mailbbgun.services import Services
from mailbbgun.smtp_accounts import edit, repo
from mailbbgun.smtp_accounts.connection_test import ConnectionTests
from mailbbgun.smtp_accounts.models import SMTPAccount
from mailbbgun.smtp_accounts.presets import PRESETS
from mailbbgun.smtp_accounts.schemas import (
    AccountChange,
    AccountSettings,
    ConnectionTestOptions,
    ConnectionTestResult,
    NewAccount,
)

COLUMNS = (
    "setting_name",
    "smtp_host",
    "smtp_port",
    "security_protocol",
    "smtp_username",
    "from_email",
    "priority",
    "weight",
    "enabled",
    "id",
)
LONGEST_WORDS = 300  # characters of a server's reply in the line that says why an account does not work
STEP_COLUMNS = ("name", "ok", "milliseconds", "words")
# Fields that can be cleared. Clearing the user name clears the password as well.
CLEARABLE = [
    name.replace("_", "-")
    for name, field in AccountSettings().fields.items()
    if field.allow_none or name == "recipient_domains"
]
SHOWN = tuple(
    column.name
    for column in SMTPAccount.__table__.columns
    if ENCRYPTED not in column.info and column.name != "tenant_id"
)


@click.group()
def account() -> None:
    """SMTP accounts: the servers that a tenant's mail leaves through.

    ACCOUNT is its setting_name or its id.
    """


@account.command("list")
@of_tenant
@as_json
def index(tenant: str, as_json: bool) -> None:
    """List all accounts of a tenant, newest first."""
    with opened_for(tenant) as (services, tenant_id), services.db.read(tenant_id) as session:
        shown = [
            _shown(one)
            for one in all_pages(lambda after: repo.accounts(session, tenant_id, limit=PAGE, offset=0, after=after))
        ]
    if as_json:
        print_json({"smtp_accounts": shown, "count": len(shown)})
    else:
        print_table(shown, COLUMNS)


@account.command()
@click.argument("setting_name")
@of_tenant
@options_of(NewAccount(), "setting_name", "smtp_password", "ca_certificate")
@click.option(
    "--password-file",
    type=click.File(),
    help="The password is the first line of this file; - is standard input. By default you are asked.",
)
@click.option(
    "--ca-file",
    type=click.File(),
    help="PEM file of the authorities to trust for this server, instead of the system's.",
)
@as_json
@click.pass_context
def create(
    context: click.Context,
    /,
    tenant: str,
    password_file: TextIO | None,
    ca_file: TextIO | None,
    as_json: bool,
    **_: Any,
) -> None:
    """Add an account called SETTING_NAME.

    Its password is never an argument: others on this machine could read it.
    """
    wanted = {
        name: value
        for name, value in typed_options(context).items()
        if name not in ("tenant", "password_file", "ca_file", "as_json")
    }
    wanted |= {"setting_name": context.params["setting_name"]} | ({"ca_certificate": ca_file.read()} if ca_file else {})
    if password_file is not None:
        wanted["smtp_password"] = password_file.readline().rstrip("\r\n")
    elif "smtp_username" in wanted or ("preset" in wanted and PRESETS[wanted["preset"]].username):
        wanted["smtp_password"] = _asked_password()
    wanted = validated(NewAccount(), wanted)
    with opened_for(tenant) as (services, tenant_id), as_usage_error():
        values = edit.filled(wanted, Guard(allowed=Allowed.read(services.settings.ALLOW_PRIVATE_HOSTS)))
        with services.db.write(tenant_id) as session:
            edit.create(session, services.vault, tenant_id, new_id(), values)
        _print(services, tenant_id, wanted["setting_name"], as_json)


@account.command()
@click.argument("account")
@of_tenant
@as_json
def show(account: str, tenant: str, as_json: bool) -> None:
    """Show an account."""
    with opened_for(tenant) as (services, tenant_id):
        _print(services, tenant_id, account, as_json)


@account.command()
@click.argument("account")
@of_tenant
@options_of(AccountChange(), "smtp_password", "ca_certificate")
@click.option(
    "--password-file", type=click.File(), help="The new password is the first line of this file; - is standard input."
)
@click.option("--ask-password", is_flag=True, help="Ask for a new password.")
@click.option(
    "--ca-file",
    type=click.File(),
    help="PEM file of the authorities to trust for this server, instead of the system's.",
)
@click.option("--clear", multiple=True, type=click.Choice(CLEARABLE), help="Clear this field: no limit, any sender, …")
@as_json
@click.pass_context
def update(context: click.Context, /, account: str, tenant: str, as_json: bool, **_: Any) -> None:
    """Change the given fields of an account. Every process uses them within a second.

    The password is needed again when host, port, security or authorities change. You are asked for
    it then, unless --password-file has it.
    """
    wanted = _changes(context)
    if not wanted and not context.params["ask_password"]:
        raise click.UsageError("Nothing is to be changed: see --help.")
    values = validated(AccountChange(), wanted)
    with opened_for(tenant) as (services, tenant_id):
        with services.db.read(tenant_id) as session:
            found = _found(session, tenant_id, account)
        if context.params["ask_password"] or _needs_password(found, values):
            values |= validated(AccountChange(), {"smtp_password": _asked_password()})
        guard = Guard(allowed=Allowed.read(services.settings.ALLOW_PRIVATE_HOSTS))
        with as_usage_error(), services.db.write(tenant_id) as session:
            edit.change(session, services.vault, guard, tenant_id, found.id, values)
        _print(services, tenant_id, str(found.id), as_json)


@account.command()
@click.argument("account")
@of_tenant
@click.option("--to", help="Also send a test mail to this address. No limit counts it.")
@as_json
def test(account: str, tenant: str, to: str | None, as_json: bool) -> None:
    """Test an account now, step by step, for 30 seconds at most. Exit code 1: it does not work."""
    wanted = validated(ConnectionTestOptions(), {} if to is None else {"to": to})
    with opened_for(tenant, sends=True) as (services, tenant_id):
        with services.db.read(tenant_id) as session:
            found = _found(session, tenant_id, account)
        password = services.vault.decrypt(found.smtp_password) if found.smtp_password else ""
        tried = ConnectionTests(services.settings, mime.note).run(tenant_id, found, password, wanted.get("to"))
        shown: Any = ConnectionTestResult().dump(tried)
        if as_json:
            print_json(shown)
        else:
            print_table([one | {"words": _words(one)} for one in shown["steps"]], STEP_COLUMNS)
        if not tried.ok:
            failed = next(one for one in reversed(shown["steps"]) if not one["ok"])
            why = f"{failed['name']}: {printable(_words(failed), LONGEST_WORDS)}"
            raise Unavailable(f"The account {found.setting_name} does not work: {why}")


@account.command()
@click.argument("account")
@of_tenant
@as_json
def enable(account: str, tenant: str, as_json: bool) -> None:
    """Send mail through an account again."""
    _switch(account, tenant, as_json, enabled=True)


@account.command()
@click.argument("account")
@of_tenant
@as_json
def disable(account: str, tenant: str, as_json: bool) -> None:
    """Send no more mail through an account."""
    _switch(account, tenant, as_json, enabled=False)


@account.command()
@click.argument("account")
@of_tenant
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def delete(account: str, tenant: str, yes: bool) -> None:
    """Delete an account and its password."""
    with opened_for(tenant) as (services, tenant_id):
        with services.db.read(tenant_id) as session:
            found = _found(session, tenant_id, account)
        confirm_deletion(f"the account {found.setting_name} ({found.smtp_host}) and its password", yes=yes)
        with services.db.write(tenant_id) as session:
            repo.remove(session, tenant_id, found.id)
    click.echo(f"deleted {found.setting_name}")


def _asked_password() -> str:
    """Ask for a password at the terminal.

    Raises :class:`click.UsageError` if stdin is no terminal: it would show the password, or nobody
    would answer.
    """
    if not sys.stdin.isatty():
        raise click.UsageError(
            "There is no terminal to ask for the password at: --password-file FILE reads it from the first line of "
            "a file, --password-file - from standard input."
        )
    password: str = click.prompt("Password", hide_input=True, err=True)
    return password


def _changes(context: click.Context) -> dict[str, Any]:
    """Return the fields that the user wants changed. Fields to clear are None."""
    ours = ("account", "tenant", "password_file", "ask_password", "ca_file", "clear", "as_json")
    params = context.params
    wanted = {name: value for name, value in typed_options(context).items() if name not in ours}
    if params["password_file"] is not None:
        if params["ask_password"]:
            raise click.UsageError("--ask-password asks for what --password-file has; give one or the other.")
        wanted["smtp_password"] = params["password_file"].readline().rstrip("\r\n")
    if params["ca_file"] is not None:
        wanted["ca_certificate"] = params["ca_file"].read()
    cleared = {one.replace("-", "_") for one in params["clear"]}
    if both := sorted(cleared & wanted.keys()):
        raise click.UsageError(f"--clear {both[0].replace('_', '-')} and a new value of it: give one or the other.")
    return wanted | {name: [] if name == "recipient_domains" else None for name in cleared}


def _needs_password(account: SMTPAccount, values: Mapping[str, Any]) -> bool:
    """Return whether the changes need the password: it would go to another server, or a user has
    none yet.
    """
    if "smtp_password" in values or values.get("smtp_username", account.smtp_username) is None:
        return False
    moves = any(name in values and values[name] != getattr(account, name) for name in edit.DESTINATION)
    return account.smtp_password is None or moves


def _words(step: Mapping[str, Any]) -> str:
    """Return what the server or the connection said in a step; for TLS also version and cipher."""
    encrypted = step["tls"] or {}
    said = [step.get(name) for name in ("mechanism", "code", "enhanced", "words")]
    return " ".join(str(one) for one in (*said, encrypted.get("version"), encrypted.get("cipher")) if one)


def _found(session: Session, tenant_id: UUID, called: str) -> SMTPAccount:
    identifier = uuid(called)
    found = (repo.account(session, tenant_id, identifier) if identifier else None) or repo.account_named(
        session, tenant_id, called
    )
    if found is None:
        raise NotFound(f"There is no account {called!r}.")
    return found


def _switch(called: str, tenant: str, as_json: bool, *, enabled: bool) -> None:
    with opened_for(tenant) as (services, tenant_id):
        with services.db.write(tenant_id) as session:
            repo.change(
                session, tenant_id, _found(session, tenant_id, called).id, {"enabled": enabled, "updated_at": db_now()}
            )
        _print(services, tenant_id, called, as_json)


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
