"""What a caller may grant: no scope that it lacks, and in its own tenant no key that may do more, or lives longer, than the caller's.

What limits a key in its own tenant (its kind, senders, guests, networks, requests and end) does not limit what an administrator makes for others:
there the tenant's own limits hold.
"""

from collections.abc import Collection, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from uuid import UUID

from sqlalchemy.orm import Session

from mailbbgun.base.caller import Caller, KeyKind
from mailbbgun.base.errors import Forbidden
from mailbbgun.tenants import repo
from mailbbgun.tenants.keys import Wish
from mailbbgun.tenants.models import ApiKey


def check(session: Session, who: Caller, tenant_id: UUID, wish: Wish) -> None:
    """Raise :class:`Forbidden` if ``who`` asks for a key, of that tenant, that ``who`` may not grant."""
    if lacks := sorted(set(wish.scopes) - who.scopes):
        whose = "this API key lacks" if who.key_id else "without an API key nobody has"
        raise Forbidden(f"A caller grants only scopes it has: {whose} {', '.join(lacks)}.")
    if who.tests_only and wish.kind is not KeyKind.TEST:
        raise Forbidden("A test key makes only test keys.")
    if who.key_id is None or tenant_id != who.tenant_id:
        return
    own = repo.key(session, who.tenant_id, who.key_id)
    if own is None:
        raise Forbidden("This API key is gone.")
    if more := list(_more(own, wish)):
        raise Forbidden(f"A key of your own tenant may do no more than yours: its {', '.join(more)} would allow more.")


def _more(own: ApiKey, wish: Wish) -> Iterator[str]:
    """Give what of a key would go beyond another one."""
    if own.kind == KeyKind.TEAM and not (wish.kind is KeyKind.TEST or (wish.kind is KeyKind.TEAM and _within(wish.guests, own.guests))):
        yield "kind or guests"
    if own.senders and not _within(wish.senders, own.senders):
        yield "senders"
    if own.networks and not _inside(wish.networks, own.networks):
        yield "networks"
    least = own.max_requests_per_minute
    if least is not None and (wish.max_requests_per_minute is None or wish.max_requests_per_minute > least):
        yield "max_requests_per_minute"
    if own.expires_at is not None and (wish.expires_at is None or wish.expires_at > own.expires_at):
        yield "expires_at"


def _within(wanted: Collection[str], ours: Collection[str]) -> bool:
    """Say whether each of these addresses and domains is among ours, or of a domain of ours; none at all would be any."""
    return bool(wanted) and all(one in ours or ("@" in one and one.rpartition("@")[2] in ours) for one in wanted)


def _inside(wanted: Collection[str], ours: Collection[str]) -> bool:
    """Say whether each of these networks lies inside one of ours; none at all would be anywhere."""
    return bool(wanted) and all(any(_is_part(ip_network(one), ip_network(other)) for other in ours) for one in wanted)


def _is_part(one: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network) -> bool:
    return one.version == other.version and one.network_address in other and one.prefixlen >= other.prefixlen
