"""The gate before every view: for which host, from where, who asks, and whether its key may do this.

A view that does not say what it needs, and is not open, is shut; one that does not say that it is for test keys is shut for them.
"""

import math
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, cast

from flask import Flask, Response, after_this_request, current_app, g, request
from sqlalchemy.orm import Session

from mailbbgun.core.caller import Caller, Scope
from mailbbgun.core.errors import (
    CrossSite,
    Forbidden,
    HostNotAllowed,
    InvalidInput,
    MailBBGunError,
    OnlyTestData,
    RateLimited,
    Suspended,
    Unauthorized,
)
from mailbbgun.core.hosts import Hosts, shown
from mailbbgun.core.net import network_of
from mailbbgun.database.db import Database
from mailbbgun.http.refusals import Refusals
from mailbbgun.http.web import (
    NEEDS,
    TESTS,
    WHO,
    PendingResponse,
    View,
    add_headers,
    named_hosts,
    provided,
    rate_headers,
)

WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class AuthenticatorContract(Protocol):
    """Knows who asks."""

    def at_hand(self, header: str | None) -> bool:
        """Say whether :meth:`caller` answers without waiting for anybody."""

    def caller(self, header: str | None, address: str | None) -> Caller:
        """Return who asks, by the ``Authorization`` header and the client's IP address. Raises :class:`Unauthorized`, :class:`Forbidden`."""


class Standing(NamedTuple):
    """How a request stands with a limit of requests a minute."""

    allowed: bool
    limit: int
    remaining: int
    reset: float  # seconds until the first of those counted counts no longer

    @property
    def seconds(self) -> int:
        """The reset in whole seconds, not too early."""
        return max(math.ceil(self.reset), 1)

    @property
    def headers(self) -> Mapping[str, str]:
        """What an answer says of it."""
        return rate_headers(self.limit, self.remaining, self.seconds)


class Limiter(Protocol):
    """Knows who asks too often."""

    @property
    def waits(self) -> bool:
        """Whether :meth:`taken` may wait for a server."""

    def allows(self, caller: Caller) -> bool:
        """Say whether :meth:`taken` would let a request through just now; count none. Not where that :attr:`waits`."""

    def taken(self, caller: Caller) -> Standing | None:
        """Count a request of a caller that has limits."""

    def address(self, address: str | None, *, failed: bool) -> Standing:
        """Say how an address stands with showing no valid key; count it if it ``failed`` to just now."""


def needs(scope: Scope, *, tests: bool = False) -> Callable[[View], View]:
    """Mark a view as one for keys that have this scope; with ``tests`` for test keys as well.

    Such a view reads by :func:`reading` alone, and hands the caller's ``tests_only`` to what writes, so that a test key meets test data alone.
    """

    def marked(view: View) -> View:
        setattr(view, NEEDS, scope)
        setattr(view, TESTS, tests)
        return view

    return marked


def caller() -> Caller:
    """Return who asks."""
    return cast(Caller, g.caller)


def reading(db: Database) -> AbstractContextManager[Session]:
    """Open a session to read what the caller may see: its tenant's; of a test key, the test data of it."""
    return db.read(caller().tenant_id, tests_only=caller().tests_only)


def admitted(
    authenticator: AuthenticatorContract, needed: Scope, header: str | None, address: str | None
) -> Caller | None:
    """Return who asks if that is at hand, and may do this; None: let :func:`guard` find out, and say, why not. Counts nothing."""
    if not authenticator.at_hand(header):
        return None
    try:
        who = authenticator.caller(header, address)
    except MailBBGunError:
        return None
    return who if needed in who.scopes and not who.suspended else None


def counted(limiter: Limiter, who: Caller) -> Mapping[str, str] | None:
    """Count a request and return what its answer says of that; None if it is one too many."""
    standing = limiter.taken(who) if who.limited else None
    if standing is None:
        return {}
    return standing.headers if standing.allowed else None


def guard(
    app: Flask,
    authenticator: AuthenticatorContract,
    limiter: Limiter,
    open_to_all: Collection[str],
    probes: Collection[str],
    require_database: Callable[[], None],
) -> None:
    """Let nothing into a view of ``app`` but what may be there. Endpoints that are ``open_to_all`` ask for no key and have no limit.

    ``probes`` are endpoints that answer whatever IP address they are asked for by. An address that showed too many keys that are none gets 429 in
    the place of 401. A key that is one is served all the same: others may share its client's address.
    ``require_database`` raises :class:`DatabaseUnavailable` for all other endpoints while there is no database to work with.
    """

    @app.before_request
    def _pass() -> Any:
        _check_host(probes)
        if request.endpoint is None or request.endpoint in open_to_all:
            return None  # that there is nothing here is no secret
        require_database()
        needed = getattr(current_app.view_functions[request.endpoint], NEEDS, None)
        header, address = request.headers.get("Authorization"), request.remote_addr
        try:
            who = authenticator.caller(header, address)
        except Unauthorized as error:
            _not_too_often(limiter.address(address, failed=True), address, error)
            raise
        request.environ[WHO] = who
        if who.limited:
            _count(limiter.taken(who))
        g.caller = who
        _check(who, needed, getattr(current_app.view_functions[request.endpoint], TESTS, False))
        return None


def _count(standing: Standing | None) -> None:
    if standing is None:
        return
    headers = standing.headers

    @after_this_request
    def _tell(answer: Response) -> Response:
        if isinstance(answer, PendingResponse):
            answer.more = headers
        else:
            add_headers(answer, headers)
        return answer

    if not standing.allowed:
        raise RateLimited(
            f"More than {standing.limit} requests a minute.", limit=standing.limit, retry_after=standing.seconds
        )


def _not_too_often(standing: Standing, address: str | None, why: Unauthorized) -> None:
    if standing.allowed:
        return
    told = {"client": address, "count": standing.limit, "seconds": standing.seconds}
    provided(Refusals).tell("locked", network_of(address), told, most=1, event="address_locked")
    error = RateLimited(
        "Too many requests without a valid API key.", limit=standing.limit, retry_after=standing.seconds
    )
    error.told = why.told
    raise error


def _check_host(probes: Collection[str]) -> None:
    """Serve no host that is not ours, and change nothing for a page that is not. Costs microseconds: it is before every view."""
    hosts, named, origin, site = (
        provided(Hosts),
        named_hosts(),
        request.headers.get("Origin"),
        request.headers.get("Sec-Fetch-Site"),
    )
    try:
        for host in named:
            if not hosts.serves(host, probe=request.endpoint in probes):
                raise _not_ours(host)
    except ValueError as error:
        raise InvalidInput(f"Host: {error}.") from error
    if request.method in WRITING and (origin is not None or site is not None) and hosts.foreign(named[0], origin, site):
        whose = f"Origin {shown(origin)!r}" if origin is not None else f"Sec-Fetch-Site {shown(str(site))!r}"
        raise CrossSite(
            f"A web page of another site may change nothing here ({whose}). If it is this service's own page, set PUBLIC_URL."
        )


def _not_ours(host: str | None) -> HostNotAllowed:
    if not host:
        return HostNotAllowed("The request names no host: send the Host header.")
    named = shown(host)
    error = HostNotAllowed(
        f"This service does not answer for the host {named!r}. "
        "If that is its name, add it to the setting ALLOWED_HOSTS."
    )
    error.told = {"host": named}
    return error


def _check(who: Caller, needed: Scope | None, tests: bool) -> None:
    if needed is None or needed not in who.scopes:
        lacks = (
            "This API key lacks the scope"
            if who.key_id
            else "Without an API key nobody may do this; it needs one with the scope"
        )
        raise Forbidden(f"{lacks} {needed}." if needed else "No API key may do this.")
    if who.tests_only and not tests:
        raise OnlyTestData(
            "This is a test key: it may send, read and change test messages, and nothing else. Use a live key."
        )
    if who.suspended and request.method in WRITING:
        raise Suspended("This tenant is suspended.")
