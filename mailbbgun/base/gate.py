"""The gate before every view: who asks, and whether its key may do this. A view that does not say what it needs, and is not open, is shut."""

from collections.abc import Callable, Collection
from typing import Any, Protocol, cast

from flask import Flask, current_app, g, request

from mailbbgun.base.caller import Caller, Scope
from mailbbgun.base.errors import Forbidden, Suspended
from mailbbgun.base.web import PARKS, Parked, View

NEEDS = "needs"  # the attribute of a view
WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Authenticator(Protocol):
    """Knows who asks."""

    def at_hand(self, header: str | None) -> bool:
        """Say whether :meth:`caller` answers without waiting for anybody."""

    def caller(self, header: str | None, address: str | None) -> Caller:
        """Return who asks, by the ``Authorization`` header and the client's IP address. Raises :class:`Unauthorized`, :class:`Forbidden`."""


def needs(scope: Scope) -> Callable[[View], View]:
    """Mark a view as one for keys that have this scope."""


    def marked(view: View) -> View:
        setattr(view, NEEDS, scope)
        return view

    return marked


def caller() -> Caller:
    """Return who asks."""
    return cast(Caller, g.caller)


def guard(app: Flask, authenticator: Authenticator, open_to_all: Collection[str]) -> None:
    """Let nothing into a view of ``app`` but what may be there. Endpoints that are ``open_to_all`` ask for no key."""

    @app.before_request
    def _pass() -> Any:
        if request.endpoint is None or request.endpoint in open_to_all:
            return None  # that there is nothing here is no secret
        needed = getattr(current_app.view_functions[request.endpoint], NEEDS, None)
        header = request.headers.get("Authorization")
        if request.environ.get(PARKS) and not authenticator.at_hand(header):
            # The thread that polls may wait for nobody: another one begins this request again.
            del request.environ[PARKS]
            return Parked(_AtOnce(), current_app.full_dispatch_request)
        g.caller = authenticator.caller(header, request.remote_addr)
        _check(g.caller, needed)
        return None


def _check(who: Caller, needed: Scope | None) -> None:
    if needed is None or needed not in who.scopes:
        raise Forbidden(f"This API key lacks the scope {needed}." if needed else "No API key may do this.")
    if who.suspended and request.method in WRITING and needed is not Scope.ADMIN:
        raise Suspended("This tenant is suspended.")


class _AtOnce:
    """Ends by whoever is asked for the answer."""

    ended = False

    def tell(self, callback: Callable[[], None]) -> None:
        """Call back at once."""
        callback()
