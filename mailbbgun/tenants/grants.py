"""Checks what a caller may grant. In no tenant may it grant anything that it lacks itself.

So no chain of new keys and new tenants leads further than the first key in it.

A new key gets no scope that its maker lacks. It must keep every limit of its maker's key: kind,
senders, guests, networks, requests a minute, guard against duplicates and end. A missing limit
counts as higher than any limit, since a key without the limit could make further keys without it.

A caller whose key has no limits is bound by its scopes only. Such an administrator decides what
tenants may use, its own tenant included.

A caller whose key has limits, and whose tenant has limits, is *confined* to its tenant. It changes
nothing of other tenants and adds none: otherwise it could use another tenant's quota, or any number
of quotas. In its own tenant it makes, rotates and revokes only keys that may do no more than its
own, and changes only the tenant's name and, downwards, its limits.

A caller of a suspended tenant changes nothing, whatever its key may do. The gate refuses its
requests; the checks here hold from the moment of the suspension, before each process knows of it.
"""

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from sqlalchemy.orm import Session

from mailbbgun.core.caller import Caller, KeyKind
from mailbbgun.core.clock import rfc3339
from mailbbgun.core.errors import Forbidden, Suspended, Unauthorized
from mailbbgun.tenants import repo
from mailbbgun.tenants.keys import KeySpec, spec_of
from mailbbgun.tenants.models import SUSPENDED, ApiKey, Tenant

#: How many entries of a list an error names.
MOST_NAMED = 5
TENANT_LIMITS = ("max_requests_per_minute", "max_messages_per_day", "max_storage")


def check(
    session: Session, who: Caller, tenant: Tenant, spec: KeySpec, per_minute: int | None, *, copied: bool = False
) -> None:
    """Raise :class:`Forbidden` if the caller ``who`` may not grant this key of this tenant.

    ``per_minute`` is the limit of requests a minute of a caller without a key (None: no limit). A
    key without a limit of its own is bound by its tenant's limit, and so are the keys that it makes
    in its tenant. ``copied``: the key is a copy made by rotation, and may keep a limit above that
    of its tenant, which may have been lowered since.

    Raises :class:`Unauthorized` if the caller's key has ended, :class:`Suspended` if its tenant is
    suspended. Other requests with such a key may succeed for up to a second, but a key made in that
    second would outlive it.
    """
    own = _current_key(session, who)
    if lacks := sorted(set(spec.scopes) - who.scopes):
        whose = "this API key lacks" if who.key_id else "without an API key nobody has"
        raise Forbidden(f"A caller grants only scopes it has: {whose} {', '.join(lacks)}.")
    if who.tests_only and spec.kind is not KeyKind.TEST:
        raise Forbidden("A test key makes only test keys.")
    if more := _excess(who, own, tenant, spec, per_minute, copied=copied):
        which = (
            "A key of your own tenant may do no more"
            if tenant.id == who.tenant_id
            else "A key may in no tenant do more"
        )
        raise Forbidden(f"{which} than yours: it would by its {'; '.join(more)}.")
    if tenant.id != who.tenant_id and (why := _why_confined(session, who, own, per_minute)):
        raise Forbidden(f"{why} makes no keys for other tenants.")


def check_revocation(session: Session, who: Caller, tenant: Tenant, key: ApiKey, per_minute: int | None) -> None:
    """Raise :class:`Forbidden` if ``who`` may not revoke this key of this tenant.

    ``per_minute`` and the other errors are as for :func:`check`.
    """
    own = _current_key(session, who)
    why = _why_confined(session, who, own, per_minute)
    if why is None:
        return
    if tenant.id != who.tenant_id:
        raise Forbidden(f"{why} changes nothing of other tenants.")
    spec = spec_of(key)
    lacks = sorted(set(spec.scopes) - who.scopes)
    more = [
        *([f"scopes ({', '.join(lacks)})"] if lacks else ()),
        *_excess(who, own, tenant, spec, per_minute, copied=True),
    ]
    if more:
        raise Forbidden(f"{why} revokes no key that may do more than its own: this one may by its {'; '.join(more)}.")


def check_tenant(
    session: Session, who: Caller, tenant: Tenant | None, wanted: Mapping[str, Any], per_minute: int | None
) -> None:
    """Raise :class:`Forbidden` if ``who`` may not change the tenant so, or add it (None).

    ``per_minute`` and the other errors are as for :func:`check`.
    """
    why = _why_confined(session, who, _current_key(session, who), per_minute)
    if why is None:
        return
    if tenant is None:
        raise Forbidden(f"{why} makes no tenants.")
    if tenant.id != who.tenant_id:
        raise Forbidden(f"{why} changes nothing of other tenants.")
    if wanted.get("status", tenant.status) != tenant.status:
        raise Forbidden(f"{why} does not change the status of its tenant.")
    raised = [name for name in TENANT_LIMITS if name in wanted and _above(wanted[name], getattr(tenant, name))]
    if raised:
        now = "they are" if len(raised) > 1 else "it is"
        raise Forbidden(f"{why} raises no tenant's limits: {', '.join(raised)} would be more than {now} now.")


def check_service(session: Session, who: Caller, per_minute: int | None) -> None:
    """Raise :class:`Forbidden` if ``who`` may not change what the service does for all tenants.

    ``per_minute`` and the other errors are as for :func:`check`.
    """
    if why := _why_confined(session, who, _current_key(session, who), per_minute):
        raise Forbidden(f"{why} changes nothing for all tenants.")


def _why_confined(session: Session, who: Caller, own: ApiKey | None, per_minute: int | None) -> str | None:
    """Return why a caller is confined to its tenant, as the start of a sentence.

    None if it is not.
    """
    limits = _limits(own) if own else (["RATE_LIMIT_PER_MINUTE"] if per_minute is not None else [])
    tenant = repo.tenant(session, who.tenant_id)
    bounds = [name for name in TENANT_LIMITS if tenant and getattr(tenant, name) is not None]
    if not limits or not bounds:
        return None
    whose = "An API key with limits" if own else "A caller without an API key that has limits"
    return f"{whose} ({', '.join(limits)}), of a tenant that has some too ({', '.join(bounds)}),"


def _limits(own: ApiKey) -> list[str]:
    """Return the names of a key's limits."""
    names = ["kind"] if own.kind != KeyKind.LIVE else []
    limits = ("senders", "networks", "max_requests_per_minute", "duplicate_seconds", "expires_at")
    return names + [name for name in limits if getattr(own, name)]


def _current_key(session: Session, who: Caller) -> ApiKey | None:
    """Return the caller's key as the database has it now; None for a caller without a key.

    Raises :class:`Unauthorized` if the key has ended, :class:`Suspended` if its tenant is suspended.
    """
    tenant = repo.tenant(session, who.tenant_id)
    if tenant is not None and tenant.status == SUSPENDED:
        raise Suspended("This tenant is suspended.")
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


def _excess(
    who: Caller, own: ApiKey | None, tenant: Tenant, spec: KeySpec, per_minute: int | None, *, copied: bool
) -> list[str]:
    """Return an objection for each limit by which a key of this tenant exceeds the caller's."""
    most = own.max_requests_per_minute if own else per_minute
    tenant_most = tenant.max_requests_per_minute if tenant.id == who.tenant_id and not copied else None
    return [*_exceeded_rate(most, tenant_most, spec), *(_exceeded_limits(own, spec) if own else ())]


def _exceeded_rate(most: int | None, tenant_most: int | None, spec: KeySpec) -> Iterator[str]:
    """Yield an objection if the key could ask more often than its maker, or than its tenant."""
    wanted = spec.max_requests_per_minute
    if _above(wanted, most):
        yield f"max_requests_per_minute (at most {most})"
    elif wanted is not None and _above(wanted, tenant_most):
        yield f"max_requests_per_minute (at most {tenant_most}, as its tenant)"


def _above(wanted: int | None, most: int | None) -> bool:
    """Return whether a limit is higher than another one; None means no limit."""
    return most is not None and (wanted is None or wanted > most)


def _exceeded_limits(own: ApiKey, spec: KeySpec) -> Iterator[str]:
    """Yield an objection for each other limit by which the new key would exceed ``own``."""
    if own.kind == KeyKind.TEAM and not (
        spec.kind is KeyKind.TEST or (spec.kind is KeyKind.TEAM and _within(spec.guests, own.guests))
    ):
        yield f"kind or guests (test, or team with guests among {_named(own.guests)})"
    if own.senders and not _within(spec.senders, own.senders):
        yield f"senders (only {_named(own.senders)})"
    if own.networks and not _inside(spec.networks, own.networks):
        yield f"networks (only inside {_named(own.networks)})"
    if own.duplicate_seconds and (spec.duplicate_seconds or 0) < own.duplicate_seconds:
        yield f"duplicate_seconds (at least {own.duplicate_seconds})"
    if own.expires_at is not None and (spec.expires_at is None or spec.expires_at > own.expires_at):
        yield f"expires_at (at the latest {rfc3339(own.expires_at)})"


def _named(entries: Collection[str]) -> str:
    """Return the first entries of a list as text."""
    named = ", ".join(list(entries)[:MOST_NAMED])
    return f"{named} and {len(entries) - MOST_NAMED} more" if len(entries) > MOST_NAMED else named


def _within(wanted: Collection[str], ours: Collection[str]) -> bool:
    """Return whether all wanted addresses and domains are in ours.

    An empty list means any, so it is not inside.
    """
    return bool(wanted) and all(one in ours or ("@" in one and one.rpartition("@")[2] in ours) for one in wanted)


def _inside(wanted: Collection[str], ours: Collection[str]) -> bool:
    """Return whether all wanted networks lie inside ours.

    An empty list means anywhere, so it is not inside.
    """
    return bool(wanted) and all(any(_is_part(ip_network(one), ip_network(other)) for other in ours) for one in wanted)


def _is_part(one: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network) -> bool:
    return one.version == other.version and one.network_address in other and one.prefixlen >= other.prefixlen
