"""``mailbbgun domain``: sending domains and their DKIM keys. No command prints a private key."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import click
from sqlalchemy.orm import Session

from mailbbgun.cli.terminal import (
    PAGE,
    Command,
    all_pages,
    as_json,
    as_usage_error,
    confirm_deletion,
    of_tenant,
    opened_for,
    print_json,
    print_one,
    print_table,
    uuid,
)
from mailbbgun.core.errors import InvalidInput, Unavailable
from mailbbgun.core.ids import new_id
from mailbbgun.domains import edit, repo
from mailbbgun.domains.dns.look import LIMIT, DomainChecks
from mailbbgun.domains.models import POLICIES, Policy, SendingDomain
from mailbbgun.domains.schemas import DomainDetails, DomainShape
from mailbbgun.routing.ways_out import resolver
from mailbbgun.services import Services

COLUMNS = ("name", "local", "signs", "policy", "checked_at", "id")
KEY_COLUMNS = ("selector", "algorithm", "state", "active_from", "removed_at")
RECORD_COLUMNS = ("type", "name", "value")
FINDING_COLUMNS = ("about", "state", "name", "words")

_POLICY = DomainShape().fields["policy"].metadata["description"]


@click.group()
def domain() -> None:
    """Sending domains: their DKIM keys, the DNS records to publish, and what the DNS says.

    DOMAIN is its name or its id.
    """


@domain.command("list")
@of_tenant
@as_json
def index(tenant: str, as_json: bool) -> None:
    """List all sending domains of a tenant, newest first."""
    with opened_for(tenant) as (services, tenant_id), services.db.read(tenant_id) as session:
        found = all_pages(lambda after: repo.page(session, tenant_id, limit=PAGE, offset=0, after=after))
        keys = repo.keys(session, tenant_id, [one.id for one in found])
        shown: Any = DomainShape(many=True).dump([edit.shape(one, keys.get(one.id, [])) for one in found])
    if as_json:
        print_json({"domains": shown, "count": len(shown)})
    else:
        print_table(shown, COLUMNS)


def _of_its_mail(command: Command) -> Command:
    local = click.option(
        "--local/--no-local", default=None, help="Deliver its mail here, to mailboxes: that of all tenants."
    )
    policy = click.option("--policy", type=click.Choice(POLICIES), help=_POLICY)
    return local(policy(command))


@domain.command()
@click.argument("name")
@_of_its_mail
@of_tenant
@as_json
def add(name: str, local: bool | None, policy: Policy | None, tenant: str, as_json: bool) -> None:
    """Add the sending domain NAME, and print the DNS records to publish.

    With --local its mail is kept in mailboxes.
    """
    with opened_for(tenant) as (services, tenant_id), as_usage_error():
        wanted = edit.domain_name(name)
        pairs, local_to = edit.pairs(), _locality(local=bool(local))
        with services.db.write(tenant_id) as session:
            made = edit.create(
                session, services.vault, tenant_id, new_id(), wanted, pairs, local=local_to, policy=policy or "none"
            )
            shown = _shown(services, session, made)
    _print(shown, as_json)


@domain.command("set")
@click.argument("domain")
@_of_its_mail
@of_tenant
@as_json
def change(domain: str, local: bool | None, policy: Policy | None, tenant: str, as_json: bool) -> None:
    """Deliver the mail of a domain here from now on, or no more; or change its policy.

    Every process follows within two seconds.
    """
    if local is None and policy is None:
        raise click.UsageError("Nothing is to be changed: see --help.")
    with opened_for(tenant) as (services, tenant_id), services.db.write(tenant_id) as session:
        found = _found(session, tenant_id, domain)
        if local is not None:
            edit.make_local(session, found, _locality(local=local))
        if policy is not None:
            repo.set_policy(session, tenant_id, found.id, policy)
        shown = _shown(services, session, _found(session, tenant_id, domain))
    _print(shown, as_json)


@domain.command()
@click.argument("domain")
@of_tenant
@as_json
def show(domain: str, tenant: str, as_json: bool) -> None:
    """Show a domain: its keys, its records, and what the DNS said when it was last asked."""
    with opened_for(tenant) as (services, tenant_id), services.db.read(tenant_id) as session:
        shown = _shown(services, session, _found(session, tenant_id, domain))
    _print(shown, as_json)


@domain.command()
@click.argument("domain")
@of_tenant
@click.option("--force", is_flag=True, help="Activate keys that wait, although their records are not seen from here.")
@as_json
def check(domain: str, tenant: str, force: bool, as_json: bool) -> None:
    """Ask the DNS about a domain now, for 8 seconds at most. Exit code 1: something is missing or wrong.

    Keys whose records are there begin to sign.
    """
    with opened_for(tenant) as (services, tenant_id):
        with services.db.read(tenant_id) as session:
            found = _found(session, tenant_id, domain)
            plan = edit.plan(session, services.settings, found, edit.keys_of(session, found))
        checks = DomainChecks(lambda: resolver(services.settings, LIMIT), services.settings.API_THREADS)
        report = checks.run(tenant_id, plan)
        with services.db.write(tenant_id) as session:
            edit.note(session, found, report, force=force)
            shown = _shown(services, session, _found(session, tenant_id, domain))
        _print(shown, as_json)
        if bad := [one for one in shown["findings"] if one["state"] in ("missing", "wrong")]:
            raise Unavailable(f"{shown['name']}: {len(bad)} of {len(shown['findings'])} records are missing or wrong.")


@domain.command()
@click.argument("domain")
@of_tenant
@as_json
def rotate(domain: str, tenant: str, as_json: bool) -> None:
    """Make new keys for a domain, and print the records to publish.

    The keys of now sign on until the records of the new ones are seen.
    """
    with opened_for(tenant) as (services, tenant_id):
        with services.db.read(tenant_id) as session:
            edit.check_none_waits(session, _found(session, tenant_id, domain))
        pairs = edit.pairs()
        with services.db.write(tenant_id) as session:
            found = _found(session, tenant_id, domain)
            edit.rotate(session, services.vault, found, pairs)
            shown = _shown(services, session, found)
    _print(shown, as_json)


@domain.command()
@click.argument("domain")
@of_tenant
@click.option("--key", "selector", help="Delete only the key with this selector.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def delete(domain: str, tenant: str, selector: str | None, yes: bool) -> None:
    """Delete a domain and its keys, or one of its keys. Its mail is not signed by them any more."""
    with opened_for(tenant) as (services, tenant_id):
        with services.db.read(tenant_id) as session:
            found = _found(session, tenant_id, domain)
        what = f"the key {selector} of {found.name}" if selector else f"the domain {found.name} and its keys"
        confirm_deletion(what, yes=yes)
        with services.db.write(tenant_id) as session:
            if selector:
                edit.remove_key(session, found, selector)
            else:
                repo.remove(session, tenant_id, found.id)
    click.echo(f"deleted {what}")


def _locality(*, local: bool) -> edit.Locality:
    """Return whose mail to a domain is delivered here: whoever may type commands is an administrator."""
    return edit.Locality(local, for_all=local)


def _found(session: Session, tenant_id: UUID, called: str) -> SendingDomain:
    """Return the domain with that name or id. Raises :class:`NotFound`."""
    try:
        wanted = uuid(called) or edit.domain_name(called)
    except InvalidInput:
        raise edit.missing() from None
    found = repo.domain(session, tenant_id, wanted)
    if found is None:
        raise edit.missing()
    return found


def _shown(services: Services, session: Session, found: SendingDomain) -> dict[str, Any]:
    shown: dict[str, Any] = DomainDetails().dump(edit.details(session, services.settings, found))
    return shown


def _print(shown: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(shown)
        return
    print_one({name: shown[name] for name in COLUMNS})
    for rows, columns in (
        (shown["keys"], KEY_COLUMNS),
        (shown["records"], RECORD_COLUMNS),
        (shown["findings"], FINDING_COLUMNS),
    ):
        if rows:
            click.echo()
            print_table(rows, columns)
