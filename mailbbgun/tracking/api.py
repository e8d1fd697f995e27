"""The routes of tracked mail: its image and its links, for everybody; what is known of its readers, for its tenant."""

import logging
from base64 import b64decode
from typing import Any
from urllib.parse import quote
from uuid import UUID

from flask import Response, request

from mailbbgun.composing.tracking import TrackedURL
from mailbbgun.core.caller import Scope
from mailbbgun.core.errors import DatabaseUnavailable, NotFound, RateLimited
from mailbbgun.core.net import network_of
from mailbbgun.events.kinds import Kind
from mailbbgun.http.blueprint import Blueprint
from mailbbgun.http.gate import caller, needs, reading
from mailbbgun.http.provided import provided
from mailbbgun.limits.request_rates import Rates
from mailbbgun.limits.windows import MemoryWindows
from mailbbgun.messages import repo as messages
from mailbbgun.messages.find import missing
from mailbbgun.services import Services
from mailbbgun.tracking import repo
from mailbbgun.tracking.keys import TrackingKeys
from mailbbgun.tracking.record import Visit, record
from mailbbgun.tracking.schemas import TrackingShape
from mailbbgun.tracking.visitors import VISITORS, agent_of, visitor

blueprint = Blueprint("tracking", __name__, description="Who opened a mail, and which links were followed.")

#: Visits a minute from one network that are recorded, at most, by each process. Proxies of large providers have
#: thousands of addresses. A visit beyond it gets its answer all the same.
MOST_VISITS = 600

#: A transparent image of one pixel.
IMAGE = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
_FRESH = {"Cache-Control": "no-store, no-cache, must-revalidate, private", "Pragma": "no-cache", "Expires": "0"}
# What a URL may have; everything else is written as codes (RFC 3986 §2).
_IN_URLS = "!#$%&'()*+,/:;=?@[]~"
_TOO_MANY = "Too many links that are not valid came from this address."

log = logging.getLogger("mailbbgun.tracking")


class Visits:
    """Counts the visits of the last minute, by network. Thread-safe."""

    def __init__(self) -> None:
        self._windows = MemoryWindows()

    def may_record(self, address: str | None) -> bool:
        """Count a visit, and return whether it is to be recorded."""
        return self._windows.hit(network_of(address), MOST_VISITS).allowed


@blueprint.route("/o/<string:token>", methods=["GET"])
@blueprint.response(200, {"type": "string", "format": "binary"}, content_type="image/gif", description="One pixel.")
@blueprint.alt_response(404, description="The URL is not of this service.")
@blueprint.alt_response(429, description=_TOO_MANY)
def opened(token: str) -> Response:
    """Note that a mail was opened, and show an invisible image

    No API key is needed: the URL is signed.
    """
    url = _url(token)
    if url.target is not None:
        raise _wrong()
    _record(url)
    return Response(IMAGE, mimetype="image/gif", headers=_FRESH)


@blueprint.route("/c/<string:token>", methods=["GET"])
@blueprint.response(302, {"type": "string"}, content_type="text/plain", description="To the page that the mail named.")
@blueprint.alt_response(404, description="The URL is not of this service.")
@blueprint.alt_response(429, description=_TOO_MANY)
def clicked(token: str) -> Response:
    """Note that a link was followed, and redirect to the page that the mail named

    No API key is needed: the URL is signed, and the page is a part of it.
    """
    url = _url(token)
    if url.target is None:
        raise _wrong()
    _record(url)
    headers = {**_FRESH, "Location": quote(url.target, safe=_IN_URLS), "Referrer-Policy": "no-referrer"}
    return Response("", 302, headers, mimetype="text/plain")


@blueprint.route("/messages/<uuid:message_id>/tracking", methods=["GET"], tags=["messages"])
@blueprint.response(200, TrackingShape)
@blueprint.alt_response(404, description="No such message.")
@needs(Scope.READ, tests=True)
def show(message_id: UUID) -> Any:
    """Show how often a message was opened and clicked, and by whom"""
    who = caller()
    its = (who.tenant_id, message_id)
    with reading(provided(Services).db) as session:
        if not messages.exists(session, *its, tests_only=who.tests_only):
            raise missing()
        counts = {(one.kind, one.visitor): one.n for one in repo.counts(session, *its, tests_only=who.tests_only)}
        addresses = repo.addresses(session, *its, tests_only=who.tests_only)
    return {
        name: {visitor: counts.get((kind.value, visitor), 0) for visitor in VISITORS}
        for name, kind in (("opens", Kind.OPENED), ("clicks", Kind.CLICKED))
    } | {"addresses": addresses}


def _url(token: str) -> TrackedURL:
    """Return what a token says. Raises :class:`NotFound`, or :class:`RateLimited` if too many were not ours."""
    url = provided(TrackingKeys).read(token)
    if url is None:
        standing = provided(Rates).address(request.remote_addr, failed=True)
        if not standing.allowed:
            raise RateLimited("Too many links that are not valid.", limit=standing.limit, retry_after=standing.seconds)
        raise _wrong()
    return url


def _record(url: TrackedURL) -> None:
    """Record a visit, unless it only asks for the head. Without a database the visitor gets the answer all the same."""
    if request.method == "HEAD" or not provided(Visits).may_record(request.remote_addr):
        return
    services = provided(Services)
    headers = dict(request.headers)
    visit = Visit(visitor(headers), agent_of(headers), request.remote_addr)
    try:
        record(services.db, url, visit, keep_address=services.settings.TRACKING_IP_DAYS > 0)
    except DatabaseUnavailable as error:
        log.warning("visit_not_recorded", extra={"message_id": url.message_id, "error": str(error)})


def _wrong() -> NotFound:
    return NotFound("This link is not of this service, or was cut off.")
