"""The gate before every view: who asks, and whether its key may do this. A view that does not say what it needs, and is not open, is shut."""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, Protocol, cast

from flask import Flask, Response, after_this_request, current_app, g, request

from mailbbgun.base.caller import Caller, Scope
from mailbbgun.base.errors import Forbidden, MailBBGunError, RateLimited, Suspended, Unauthorized
from mailbbgun.base.web import NEEDS, PARKS, Parked, View, add_headers, rate_headers

WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Authenticator(Protocol):
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


def needs(scope: Scope) -> Callable[[View], View]:
    """Mark a view as one for keys that have this scope."""


    def marked(view: View) -> View:
        setattr(view, NEEDS, scope)
        return view

    return marked


def caller() -> Caller:
    """Return who asks."""
    return cast(Caller, g.caller)


def admitted(authenticator: Authenticator, needed: Scope, header: str | None, address: str | None) -> Caller | None:
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


def guard(app: Flask, authenticator: Authenticator, limiter: Limiter, open_to_all: Collection[str]) -> None:
    """Let nothing into a view of ``app`` but what may be there. Endpoints that are ``open_to_all`` ask for no key and have no limit.

    An address that showed too many keys that are none is shut out, but for keys that are known already: they cannot be had by guessing, their
    clients may share the address with who guesses, and they are no work.
    """

    @app.before_request
    def _pass() -> Any:
        if request.endpoint is None or request.endpoint in open_to_all:
            return None  # that there is nothing here is no secret
        needed = getattr(current_app.view_functions[request.endpoint], NEEDS, None)
        header, address = request.headers.get("Authorization"), request.remote_addr
        if not authenticator.at_hand(header):
            if header is not None:
                _not_too_often(limiter.address(address, failed=False))
            if request.environ.get(PARKS):
                return _in_another_thread()
        try:
            who = authenticator.caller(header, address)
        except Unauthorized:
            _not_too_often(limiter.address(address, failed=True))
            raise
        if who.limited:
            if limiter.waits and request.environ.get(PARKS):
                return _in_another_thread()
            _count(limiter.taken(who))
        g.caller = who
        _check(who, needed)
        return None


def _in_another_thread() -> Parked:
    """The thread that polls may wait for nobody: let another one begin this request again."""
    environ = request.environ

    def again() -> Response:
        environ.pop(PARKS, None)  # not before: what is parked must go back to the server first
        return current_app.full_dispatch_request()

    return Parked(_AtOnce(), again)


def _count(standing: Standing | None) -> None:
    if standing is None:
        return
    headers = standing.headers

    @after_this_request
    def _tell(answer: Response) -> Response:
        if isinstance(answer, Parked):
            answer.more = headers
        else:
            add_headers(answer, headers)
        return answer

    if not standing.allowed:
        raise RateLimited(f"More than {standing.limit} requests a minute.", limit=standing.limit, retry_after=standing.seconds)


def _not_too_often(standing: Standing) -> None:
    if not standing.allowed:
        raise RateLimited("Too many requests without a valid API key.", limit=standing.limit, retry_after=standing.seconds)


def _check(who: Caller, needed: Scope | None) -> None:
    if needed is None or needed not in who.scopes:
        lacks = "This API key lacks the scope" if who.key_id else "Without an API key nobody may do this; it needs one with the scope"
        raise Forbidden(f"{lacks} {needed}." if needed else "No API key may do this.")
    if who.suspended and request.method in WRITING and needed is not Scope.ADMIN:
        raise Suspended("This tenant is suspended.")


class _AtOnce:
    """Ends by whoever is asked for the answer."""

    ended = False

    def tell(self, callback: Callable[[], None]) -> None:
        """Call back at once."""
        callback()
