"""What a caller may grant: nothing that it lacks, whatever the tenant. So no chain of keys and tenants leads further than its first.

A key has no scope that its maker lacks, and keeps each limit of its maker's: its kind, senders, guests, networks, requests
a minute and end. A limit that is not set is more than any other: whoever makes a key that has none could go on from there.

A key without limits of its own has its scopes alone: an administrator like that decides what tenants may use, its own too.
One with limits, of a tenant that has limits or is suspended, stays inside: it makes no tenant, no key for another, and
raises no tenant's limits. Else it would use another tenant's quota, or any number of them.
"""

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from sqlalchemy.orm import Session

from mailbbgun.core.caller import Caller, KeyKind
from mailbbgun.core.clock import rfc3339
from mailbbgun.core.errors import Forbidden, Unauthorized
from mailbbgun.tenants import repo
from mailbbgun.tenants.keys import Wish
from mailbbgun.tenants.models import ACTIVE, SUSPENDED, ApiKey, Tenant

MOST_NAMED = 5  # entries of a list that an error names
TENANT_LIMITS = ("max_requests_per_minute", "max_messages_per_day")


def check(
    session: Session, who: Caller, tenant: Tenant, wish: Wish, per_minute: int | None, *, copied: bool = False
) -> None:
    """Raise :class:`Forbidden` if ``who`` asks for a key of that tenant that ``who`` may not grant.

    A key without a limit of its own is bounded by its tenant's, and so is what it grants in its tenant; who shows no key
    may ask ``per_minute`` times a minute (None: without limit). The limit of a key that is ``copied`` may be above its
    tenant's, which was lowered meanwhile. Raises :class:`Unauthorized` if the caller's key has ended meanwhile:
    what else it asks may be served for a second more, but a key that it made then would outlive it.
    """
    if lacks := sorted(set(wish.scopes) - who.scopes):
        whose = "this API key lacks" if who.key_id else "without an API key nobody has"
        raise Forbidden(f"A caller grants only scopes it has: {whose} {', '.join(lacks)}.")
    if who.tests_only and wish.kind is not KeyKind.TEST:
        raise Forbidden("A test key makes only test keys.")
    own = _own(session, who)
    most = own.max_requests_per_minute if own else per_minute
    its_most = tenant.max_requests_per_minute if tenant.id == who.tenant_id and not copied else None
    more = [*_more_requests(most, its_most, wish), *(_more(own, wish) if own else ())]
    if more:
        which = (
            "A key of your own tenant may do no more"
            if tenant.id == who.tenant_id
            else "A key may in no tenant do more"
        )
        raise Forbidden(f"{which} than yours: it would by its {'; '.join(more)}.")
    if tenant.id != who.tenant_id and (why := _confined(session, who, own, per_minute)):
        raise Forbidden(f"{why} makes no keys for other tenants.")


def check_tenant(
    session: Session, who: Caller, tenant: Tenant | None, wanted: Mapping[str, Any], per_minute: int | None
) -> None:
    """Raise :class:`Forbidden` if ``who`` may not make a tenant (None) with these columns, or change one to have them.

    ``per_minute`` and :class:`Unauthorized` are as for :func:`check`.
    """
    why = _confined(session, who, _own(session, who), per_minute)
    if why is None:
        return
    if tenant is None:
        raise Forbidden(f"{why} makes no tenants.")
    raised = [name for name in TENANT_LIMITS if name in wanted and _above(wanted[name], getattr(tenant, name))]
    if tenant.status == SUSPENDED and wanted.get("status") == ACTIVE:
        raised.append("status")
    if raised:
        raise Forbidden(
            f"{why} raises no tenant's limits: {', '.join(raised)} would be more than {'they are' if len(raised) > 1 else 'it is'} now."
        )


def _confined(session: Session, who: Caller, own: ApiKey | None, per_minute: int | None) -> str | None:
    """Return the beginning of a sentence that says why a caller may give nothing beyond its tenant; None: it may."""
    limits = _limits(own) if own else (["RATE_LIMIT_PER_MINUTE"] if per_minute is not None else [])
    tenant = repo.tenant(session, who.tenant_id)
    if not limits or tenant is None:
        return None
    bounds = [name for name in TENANT_LIMITS if getattr(tenant, name) is not None]
    if tenant.status == SUSPENDED:
        bounds.append("status suspended")
    if not bounds:
        return None
    whose = "An API key with limits" if own else "A caller without an API key that has limits"
    return f"{whose} ({', '.join(limits)}), of a tenant that has some too ({', '.join(bounds)}),"


def _limits(own: ApiKey) -> list[str]:
    """Return the names of a key's limits."""
    names = ["kind"] if own.kind != KeyKind.LIVE else []
    return names + [
        name for name in ("senders", "networks", "max_requests_per_minute", "expires_at") if getattr(own, name)
    ]


def _own(session: Session, who: Caller) -> ApiKey | None:
    """Return the caller's key as it is now; None if it shows none."""
    if who.key_id is None:
        return None
    own = repo.key(session, who.tenant_id, who.key_id)
    if (
        own is None
        or own.revoked_at is not None
        or (own.expires_at is not None and own.expires_at <= datetime.now(UTC))
    ):
        raise Unauthorized("This API key has expired or was revoked.")
    return own


def _more_requests(most: int | None, its_most: int | None, wish: Wish) -> Iterator[str]:
    """Say if a key could ask more often than its maker, or names a limit above its tenant's."""
    wanted = wish.max_requests_per_minute
    if _above(wanted, most):
        yield f"max_requests_per_minute (at most {most})"
    elif wanted is not None and _above(wanted, its_most):
        yield f"max_requests_per_minute (at most {its_most}, as its tenant)"


def _above(wanted: int | None, most: int | None) -> bool:
    """Say whether a limit is above another one; None is no limit."""
    return most is not None and (wanted is None or wanted > most)


def _more(own: ApiKey, wish: Wish) -> Iterator[str]:
    """Say by what else a key would go beyond another one."""
    if own.kind == KeyKind.TEAM and not (
        wish.kind is KeyKind.TEST or (wish.kind is KeyKind.TEAM and _within(wish.guests, own.guests))
    ):
        yield f"kind or guests (test, or team with guests among {_named(own.guests)})"
    if own.senders and not _within(wish.senders, own.senders):
        yield f"senders (only {_named(own.senders)})"
    if own.networks and not _inside(wish.networks, own.networks):
        yield f"networks (only inside {_named(own.networks)})"
    if own.expires_at is not None and (wish.expires_at is None or wish.expires_at > own.expires_at):
        yield f"expires_at (at the latest {rfc3339(own.expires_at)})"


def _named(entries: Collection[str]) -> str:
    """Return the first few entries of a list, for people."""
    named = ", ".join(list(entries)[:MOST_NAMED])
    return f"{named} and {len(entries) - MOST_NAMED} more" if len(entries) > MOST_NAMED else named


def _within(wanted: Collection[str], ours: Collection[str]) -> bool:
    """Say whether each of these addresses and domains is among ours, or of a domain of ours; none at all would be any."""
    return bool(wanted) and all(one in ours or ("@" in one and one.rpartition("@")[2] in ours) for one in wanted)


def _inside(wanted: Collection[str], ours: Collection[str]) -> bool:
    """Say whether each of these networks lies inside one of ours; none at all would be anywhere."""
    return bool(wanted) and all(any(_is_part(ip_network(one), ip_network(other)) for other in ours) for one in wanted)


def _is_part(one: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network) -> bool:
    return one.version == other.version and one.network_address in other and one.prefixlen >= other.prefixlen
