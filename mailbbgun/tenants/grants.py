"""What a caller may grant: no scope that it lacks, and no key that may do more, or lives longer, than its own.

That holds for every key of its own tenant, and for administrators' keys of any tenant. What limits a key (its kind,
senders, guests, networks, requests and end) does not limit the ordinary keys that an administrator makes for others:
there the tenant's own limits hold.
"""

from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network, ip_network
from uuid import UUID

from sqlalchemy.orm import Session

from mailbbgun.core.caller import BEYOND_ITS_TENANT, Caller, KeyKind
from mailbbgun.core.clock import rfc3339
from mailbbgun.core.errors import Forbidden, Unauthorized
from mailbbgun.tenants import repo
from mailbbgun.tenants.keys import Wish
from mailbbgun.tenants.models import ApiKey

MOST_NAMED = 5  # entries of a list that an error names


def check(session: Session, who: Caller, tenant_id: UUID, wish: Wish, per_minute: int | None) -> None:
    """Raise :class:`Forbidden` if ``who`` asks for a key, of that tenant, that ``who`` may not grant.

    A key without a limit of its own may ask ``per_minute`` times a minute (None: without limit). Raises
    :class:`Unauthorized` if the caller's key has ended meanwhile: what else it asks may be served for a second more,
    but a key that it made then would outlive it.
    """
    if lacks := sorted(set(wish.scopes) - who.scopes):
        whose = "this API key lacks" if who.key_id else "without an API key nobody has"
        raise Forbidden(f"A caller grants only scopes it has: {whose} {', '.join(lacks)}.")
    if who.tests_only and wish.kind is not KeyKind.TEST:
        raise Forbidden("A test key makes only test keys.")
    own = _own(session, who)
    across = sorted(BEYOND_ITS_TENANT.intersection(wish.scopes))
    if tenant_id != who.tenant_id and not across:
        return
    more = [*_more_requests(own, wish, per_minute), *(_more(own, wish) if own else ())]
    if more and tenant_id == who.tenant_id:
        raise Forbidden(f"A key of your own tenant may do no more than yours: it would by its {'; '.join(more)}.")
    if more:
        raise Forbidden(
            f"A key with the scope {across[0]} may in no tenant do more than yours: it would by its {'; '.join(more)}."
        )


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


def _more_requests(own: ApiKey | None, wish: Wish, per_minute: int | None) -> Iterator[str]:
    """Say if a key could ask more often than another one, or than who shows none."""
    most = (own.max_requests_per_minute if own else None) or per_minute
    wanted = wish.max_requests_per_minute or per_minute
    if most is not None and (wanted is None or wanted > most):
        yield f"max_requests_per_minute (at most {most})"


def _more(own: ApiKey, wish: Wish) -> Iterator[str]:
    """Say by what else a key would go beyond another one."""
    if own.kind == KeyKind.TEAM and not (wish.kind is KeyKind.TEST or (wish.kind is KeyKind.TEAM and _within(wish.guests, own.guests))):
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
