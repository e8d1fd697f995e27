"""Finds by which accounts a tenant's mail may leave, as workers do, and how these stand."""

from collections.abc import Callable
from uuid import UUID

from mailbbgun.database.db import Database
from mailbbgun.domains.local import LocalDomains
from mailbbgun.explain.facts import ACCOUNTS, CATCHER, LOCAL, MX, POST, SERVER, SLACK, AccountFacts, Way
from mailbbgun.relays.posting.relay import POST_PREFIX
from mailbbgun.relays.slack.medium import SLACK_PREFIX
from mailbbgun.services import Services
from mailbbgun.settings.settings import Settings
from mailbbgun.smtp_accounts import health, repo
from mailbbgun.smtp_accounts.account import Account
from mailbbgun.smtp_accounts.health import AccountHealth
from mailbbgun.smtp_accounts.models import SMTPAccount
from mailbbgun.tenants import repo as tenants

#: Takes the sender's and a recipient's address; returns how mail between them may leave.
Ways = Callable[[str, str], Way]


def ways_of(services: Services, tenant_id: UUID, *, test: bool) -> Ways:
    """Return a function that finds the ways of a tenant's messages. Raises :class:`DatabaseUnavailable`."""
    mail, domains = _ways_of_mail(services, tenant_id, test=test), LocalDomains(services.db)

    def way(sender: str, address: str) -> Way:
        if sender.startswith(SLACK_PREFIX):
            return Way(SLACK)
        if address.startswith(POST_PREFIX):
            return Way(POST)
        local = None if test else domains.of(address.rpartition("@")[2].lower())
        here = local is not None and local.takes_from(tenant_id)
        return Way(LOCAL) if here else mail(sender, address)

    return way


def _ways_of_mail(services: Services, tenant_id: UUID, *, test: bool) -> Ways:
    settings, database = services.settings, services.db
    default = Way(CATCHER if test or settings.all_caught else MX if settings.direct_mx else SERVER)
    if test:
        return lambda _sender, _address: default
    with database.read() as session:  # the statements name the tenant, but not as the tenant filter wants it
        rows = repo.of_tenants(session, [tenant_id]).get(tenant_id, ())
        found = health.look(session, services.vault, rows, counted_here=_counted_here(settings))
    if not rows:
        return lambda _sender, _address: default
    enabled = [(row, its) for row, its in zip(rows, found, strict=True) if row.enabled]

    def way(sender: str, address: str) -> Way:
        domain = address.rpartition("@")[2].lower()
        fitting = [_facts(row, its) for row, its in enabled if _fits(row, sender.lower(), domain)]
        return Way(ACCOUNTS, sorted(fitting, key=lambda one: (one.priority, one.name)))

    return way


def _counted_here(settings: Settings) -> bool:
    return not settings.REDIS_URL


def _fits(row: SMTPAccount, sender: str, domain: str) -> bool:
    from_email = row.from_email.lower() if row.from_email else None
    return Account(row.id, row.setting_name, None, from_email, domains=tuple(row.recipient_domains)).fits(
        sender, domain
    )


def _facts(row: SMTPAccount, its: AccountHealth) -> AccountFacts:
    return AccountFacts(
        id=row.id,
        name=row.setting_name,
        priority=row.priority,
        since=its.since,
        reply=its.reply,
        used_today=its.used_today,
        max_per_day=its.max_per_day,
        readable=its.password_readable is not False,
    )


def tenant_is_suspended(database: Database, tenant_id: UUID) -> bool:
    """Return whether a tenant is suspended. Raises :class:`DatabaseUnavailable`."""
    return tenant_id in tenants.suspended_ids(database)
