"""The gate before every view. It checks the host, the caller's API key, its scope, and rate limits.

A view that neither names a scope nor is listed as open answers nobody. A view that is not marked
for test keys refuses them. An IP address that sent too many invalid keys gets 429 instead of 401;
valid keys from it are served still, since several clients may share an address.
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
from mailbbgun.http.blueprint import NEEDS, QUERY, SIGNED, TESTS, View
from mailbbgun.http.error_responses import rate_headers
from mailbbgun.http.provided import provided
from mailbbgun.http.refusals import Refusals
from mailbbgun.http.responses import WHO, PendingResponse, add_headers
from mailbbgun.http.uploads.admission import COUNTED, Admitted
from mailbbgun.http.urls import named_hosts

WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class AuthenticatorContract(Protocol):
    """Finds the caller of a request."""

    def at_hand(self, header: str | None) -> bool:
        """Return whether :meth:`caller` will answer from memory, without the database."""

    def caller(self, header: str | None, address: str | None) -> Caller:
        """Return the caller, by the ``Authorization`` header and the client's IP address.

        Raises :class:`Unauthorized`, :class:`Forbidden`.
        """


class Standing(NamedTuple):
    """The state of a limit of requests a minute."""

    allowed: bool
    limit: int
    remaining: int
    reset: float  # seconds until the oldest counted request no longer counts

    @property
    def seconds(self) -> int:
        """``reset`` in whole seconds, rounded up; at least 1."""
        return max(math.ceil(self.reset), 1)

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers that describe it in a response."""
        return rate_headers(self.limit, self.remaining, self.seconds)


class Limiter(Protocol):
    """Counts requests, and says who makes too many."""

    @property
    def waits(self) -> bool:
        """Whether :meth:`taken` may wait for a server."""

    def allows(self, caller: Caller) -> bool:
        """Return whether :meth:`taken` would allow a request now. Counts nothing.

        Must not be called if :attr:`waits`.
        """

    def taken(self, caller: Caller) -> Standing | None:
        """Count a request of a caller that has limits."""

    def address(self, address: str | None, *, failed: bool) -> Standing:
        """Return the state of an IP address's limit of requests without a valid key.

        ``failed``: it just made one, which is counted.
        """


def needs(scope: Scope, *, tests: bool = False) -> Callable[[View], View]:
    """Mark a view: it needs a key that has this scope. ``tests``: test keys may use it, too.

    A view for test keys must read by :func:`reading` only, and must pass the caller's
    ``tests_only`` to everything that writes. So a test key sees and changes only test data.
    """

    def marked(view: View) -> View:
        setattr(view, NEEDS, scope)
        setattr(view, TESTS, tests)
        return view

    return marked


def signed(view: View) -> View:
    """Mark a view: its URL is signed, and is all the permission that a request needs.

    So pages of other sites may use it. It must be among the endpoints that need no key.
    """
    setattr(view, SIGNED, True)
    return view


def caller() -> Caller:
    """Return the caller of this request."""
    return cast(Caller, g.caller)


def reading(db: Database) -> AbstractContextManager[Session]:
    """Open a session that reads only data of the caller's tenant; for a test key, test data."""
    return db.read(caller().tenant_id, tests_only=caller().tests_only)


def admitted(
    authenticator: AuthenticatorContract, needed: Scope, header: str | None, address: str | None
) -> Caller | None:
    """Return the caller, if it is at hand and may do this. Counts nothing.

    None: send the request through :func:`guard`, which finds out why, and says so.
    """
    if not authenticator.at_hand(header):
        return None
    try:
        who = authenticator.caller(header, address)
    except MailBBGunError:
        return None
    return who if needed in who.scopes and not who.suspended else None


def counted(limiter: Limiter, who: Caller) -> Mapping[str, str] | None:
    """Count a request. Return the headers for its response; None if the limit is exceeded."""
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
    has_other_key: Callable[[], bool] = lambda: False,
    failed: Callable[[], None] = lambda: None,
) -> None:
    """Check every request to ``app`` before its view runs.

    Endpoints ``open_to_all`` need no key and have no limit. ``probes`` also answer requests whose
    Host is any IP address. ``require_database`` raises :class:`DatabaseUnavailable`, for all
    endpoints that are not open, while there is no usable database. ``has_other_key`` says whether the
    request needs no API key. ``failed`` is called for each request without a valid key.
    """

    @app.before_request
    def _pass() -> Any:
        _check_host(probes)
        if request.endpoint is None or request.endpoint in open_to_all or has_other_key():
            return None  # no endpoint: a 404 is no secret
        require_database()
        view = current_app.view_functions[request.endpoint]
        header, address = request.headers.get("Authorization"), request.remote_addr
        try:
            who = authenticator.caller(header, address)
        except Unauthorized as error:
            failed()
            _not_too_often(limiter.address(address, failed=True), address, error)
            raise
        request.environ[WHO] = who
        if (earlier := request.environ.get(COUNTED)) is not None:
            _tell(earlier)
        elif who.limited:
            _count(limiter.taken(who))
        g.caller = who
        _check(who, view)
        return None


def _count(standing: Standing | None) -> None:
    if standing is None:
        return
    _tell(standing.headers)
    if not standing.allowed:
        raise RateLimited(
            f"More than {standing.limit} requests a minute.", limit=standing.limit, retry_after=standing.seconds
        )


def _tell(headers: Mapping[str, str]) -> None:
    """Add headers about limits to the response to this request."""

    @after_this_request
    def _add(answer: Response) -> Response:
        if isinstance(answer, PendingResponse):
            answer.more = headers
        elif isinstance(answer, Admitted):
            answer.counted = headers
        else:
            add_headers(answer, headers)
        return answer


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
    """Refuse a host that is not ours, and a change that a web page of another site asks for.

    It runs before every view, so it must cost only microseconds.
    """
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
    if (
        request.method in WRITING
        and (origin is not None or site is not None)
        and hosts.foreign(named[0], origin, site)
        and not hasattr(current_app.view_functions.get(request.endpoint or ""), SIGNED)
    ):
        whose = f"Origin {shown(origin)!r}" if origin is not None else f"Sec-Fetch-Site {shown(str(site))!r}"
        raise CrossSite(
            f"A web page of another site may change nothing here ({whose}). "
            "If it is this service's own page, set PUBLIC_URL."
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


def _refuse_parameters(view: Any) -> None:
    """Refuse parameters in the URL of a request that changes something, if its view takes none.

    Who asks to try a thing first, by ``dry_run``, must not find it done.
    """
    if request.args and request.method in WRITING and not hasattr(view, QUERY):
        why = "Unknown parameter: this request takes none in its URL."
        raise InvalidInput("Some parameters are not valid.", fields={name: [why] for name in request.args})


def _check(who: Caller, view: Any) -> None:
    needed, tests = getattr(view, NEEDS, None), getattr(view, TESTS, False)
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
    _refuse_parameters(view)
