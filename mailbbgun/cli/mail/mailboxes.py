"""``mailbbgun mailbox``: mailboxes of local domains, and the mail in them."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote
from uuid import UUID

import click

from mailbbgun.cli.terminal import (
    LIMIT,
    PAGE,
    Command,
    all_pages,
    as_json,
    as_usage_error,
    confirm_deletion,
    filters_of,
    of_tenant,
    opened_for,
    print_json,
    print_one,
    print_page,
    print_table,
    printable,
    typed_options,
    validated,
)
from mailbbgun.core.ids import new_id
from mailbbgun.mailbox_messages import repo as mails
from mailbbgun.mailbox_messages.schemas import FolderList, MailDetails, MailFilters, MailPage
from mailbbgun.mailbox_messages.shown import details
from mailbbgun.mailboxes import edit, repo
from mailbbgun.mailboxes.schemas import Mailboxes, MailboxFilters, MailboxShape, NewMailbox, Quotas
from mailbbgun.services import Services

COLUMNS = ("address", "messages", "size", "quota_messages", "quota_bytes", "catch_all", "aliases", "id")
FOLDER_COLUMNS = ("name", "messages", "unread")
MAIL_COLUMNS = ("received_at", "folder", "read", "from", "subject", "size", "id")
HEADER = ("id", "folder", "read", "received_at", "mail_from", "rcpt_to", "from", "to", "cc", "date", "subject", "size")
FILE_COLUMNS = ("index", "filename", "content_type", "size")

_mailbox = click.argument("mailbox", metavar="MAILBOX")


@click.group()
def mailbox() -> None:
    """Mailboxes of local domains, and the mail in them.

    MAILBOX is its address or its id.
    """


@mailbox.command("list")
@of_tenant
@click.option("--domain", help="Those of this domain.")
@as_json
def index(tenant: str, domain: str | None, as_json: bool) -> None:
    """List all mailboxes of a tenant, newest first, with their size."""
    with as_usage_error():
        its = edit.domain_of(validated(MailboxFilters(), {"domain": domain})["domain"]) if domain is not None else None
    with opened_for(tenant) as (services, tenant_id), services.db.read(tenant_id) as session:
        found = all_pages(lambda after: repo.page(session, tenant_id, limit=PAGE, offset=0, after=after, domain=its))
        shapes = edit.shapes(session, tenant_id, found)
    shown: Any = Mailboxes().dump({"mailboxes": shapes, "count": len(shapes)})
    if as_json:
        print_json(shown)
    else:
        print_table(shown["mailboxes"], COLUMNS)


def _of_its_mail(command: Command) -> Command:
    """Give a command the options for what a mailbox takes. Help is that of the API."""
    about = {name: field.metadata["description"].replace("null", "none") for name, field in Quotas().fields.items()}
    octets = click.option("--quota-bytes", type=LIMIT, help=about["quota_bytes"])
    messages = click.option("--quota-messages", type=LIMIT, help=about["quota_messages"])
    catch_all = click.option("--catch-all/--no-catch-all", default=None, help=about["catch_all"])
    return octets(messages(catch_all(command)))


@mailbox.command()
@click.argument("address")
@_of_its_mail
@of_tenant
@as_json
@click.pass_context
def add(context: click.Context, /, address: str, tenant: str, as_json: bool, **_: Any) -> None:
    """Add the mailbox ADDRESS, at a local domain: its mail is kept in it from now on."""
    wanted = validated(NewMailbox(), {"address": address} | _typed(context))
    with opened_for(tenant) as (services, tenant_id):
        with as_usage_error(), services.db.write(tenant_id) as session:
            made = edit.create(session, tenant_id, new_id(), wanted).address
        _show(services, tenant_id, made, as_json)


@mailbox.command("set")
@_mailbox
@_of_its_mail
@of_tenant
@as_json
@click.pass_context
def change(context: click.Context, /, mailbox: str, tenant: str, as_json: bool, **_: Any) -> None:
    """Change the quotas of a mailbox, or whether it is the catch-all.

    What is in it stays, also beyond a smaller quota. "none" lifts a quota.
    """
    wanted = validated(Quotas(), _typed(context))
    if not wanted:
        raise click.UsageError("Nothing is to be changed: see --help.")
    with opened_for(tenant) as (services, tenant_id):
        with services.db.write(tenant_id) as session:
            edit.change(session, edit.found(session, tenant_id, mailbox), wanted)
        _show(services, tenant_id, mailbox, as_json)


@mailbox.command()
@_mailbox
@click.argument("alias")
@click.option("--remove", is_flag=True, help="Delete the alias instead.")
@of_tenant
@as_json
def alias(mailbox: str, alias: str, remove: bool, tenant: str, as_json: bool) -> None:
    """Give a mailbox the further address ALIAS."""
    with opened_for(tenant) as (services, tenant_id):
        with as_usage_error(), services.db.write(tenant_id) as session:
            change = edit.remove_alias if remove else edit.add_alias
            change(session, edit.found(session, tenant_id, mailbox), alias)
        _show(services, tenant_id, mailbox, as_json)


@mailbox.command()
@_mailbox
@of_tenant
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def remove(mailbox: str, tenant: str, yes: bool) -> None:
    """Delete a mailbox with all mail in it."""
    with opened_for(tenant) as (services, tenant_id):
        with services.db.read(tenant_id) as session:
            found = edit.found(session, tenant_id, mailbox)
            number = edit.shapes(session, tenant_id, [found])[0]["messages"]
        what = f"the mailbox {found.address} and the mail in it ({number})"
        confirm_deletion(what, yes=yes)
        with services.db.write(tenant_id) as session:
            repo.remove(session, tenant_id, edit.found(session, tenant_id, mailbox).id)
    click.echo(f"deleted {what}")


@mailbox.command()
@_mailbox
@of_tenant
@as_json
def folders(mailbox: str, tenant: str, as_json: bool) -> None:
    """List the folders of a mailbox, with how much is in each."""
    with opened_for(tenant) as (services, tenant_id), services.db.read(tenant_id) as session:
        found = mails.folders(session, tenant_id, edit.found(session, tenant_id, mailbox).id)
    shown: Any = FolderList().dump({"folders": [one._asdict() for one in found]})
    if as_json:
        print_json(shown)
    else:
        print_table(shown["folders"], FOLDER_COLUMNS)


@mailbox.command()
@_mailbox
@of_tenant
@filters_of(MailFilters())
@as_json
@click.pass_context
def messages(context: click.Context, /, mailbox: str, tenant: str, as_json: bool, **_: Any) -> None:
    """List the mail in a mailbox, newest first, by the filters of GET /mailboxes/{address}/messages.

    A mail must match all of them.
    """
    filters = validated(MailFilters(), _typed(context))
    with opened_for(tenant) as (services, tenant_id), services.db.read(tenant_id) as session:
        wanted = mails.WantedMail(tenant_id, edit.found(session, tenant_id, mailbox).id, **filters)
        found, count, last = mails.page(session, wanted)
        shown: Any = MailPage().dump({"messages": found, "count": count})
    if as_json:
        print_json(shown)
        return
    print_page(shown["messages"], MAIL_COLUMNS, count, last)


@mailbox.command()
@_mailbox
@click.argument("mail", required=False, type=click.UUID)
@of_tenant
@click.option("--raw", is_flag=True, help="Print the mail as it was received, byte for byte.")
@as_json
def show(mailbox: str, mail: UUID | None, tenant: str, raw: bool, as_json: bool) -> None:
    """Show a mailbox, or the mail with the id MAIL in it: as its sender meant it.

    The mail counts as read no more than before.
    """
    if mail is None and raw:
        raise click.UsageError("--raw is for a mail: name its id.")
    with opened_for(tenant) as (services, tenant_id):
        if mail is None:
            _show(services, tenant_id, mailbox, as_json)
            return
        with services.db.read(tenant_id) as session:
            its = edit.found(session, tenant_id, mailbox)
            one = mails.mail(session, tenant_id, its.id, mail)
            octets = mails.raw(session, one)
    if raw:
        click.echo(octets, nl=False)
        return
    where = f"/mailboxes/{quote(its.address, safe='@')}/messages/{mail}/attachments/"
    shown: Any = MailDetails().dump(details(one, octets, lambda number: f"{where}{number}", remote=False))
    if as_json:
        print_json(shown)
    else:
        _print_mail(shown)


def _typed(context: click.Context) -> dict[str, Any]:
    but = ("mailbox", "address", "tenant", "as_json")
    return {name: value for name, value in typed_options(context).items() if name not in but}


def _show(services: Services, tenant_id: UUID, called: str, as_json: bool) -> None:
    with services.db.read(tenant_id) as session:
        found = edit.shapes(session, tenant_id, [edit.found(session, tenant_id, called)])[0]
    shown: Any = MailboxShape().dump(found)
    if as_json:
        print_json(shown)
    else:
        print_one({name: shown[name] for name in (*COLUMNS, "created_at")})


def _print_mail(shown: Mapping[str, Any]) -> None:
    """Print a mail for people. Its text may have characters that control a terminal: they are escaped."""
    print_one({name: shown[name] for name in HEADER})
    if (text := shown["text"] or shown["html"]) is not None:
        click.echo()
        click.echo(printable(text))
    if shown["attachments"]:
        click.echo()
        print_table(shown["attachments"], FILE_COLUMNS)
    for problem in shown["problems"]:
        click.echo(problem, err=True)
