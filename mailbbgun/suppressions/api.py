"""The HTTP routes of suppressions: list, add, remove, import and export; and the page to unsubscribe."""

from collections.abc import Sequence
from itertools import chain
from typing import Any
from uuid import UUID

from flask import Response, request

from mailbbgun.core.caller import Caller, KeyKind, Scope
from mailbbgun.core.errors import Forbidden, InvalidInput, NotFound, RateLimited, UnsupportedMediaType
from mailbbgun.http.blueprint import Blueprint
from mailbbgun.http.gate import caller, needs, reading
from mailbbgun.http.provided import provided
from mailbbgun.http.responses import StreamedResponse
from mailbbgun.http.urls import NEXT_PAGE, next_page
from mailbbgun.limits.request_rates import Rates
from mailbbgun.services import Services
from mailbbgun.suppressions import page, repo, schemas, transfer
from mailbbgun.suppressions.links import UnsubscribeLink, UnsubscribeLinks
from mailbbgun.suppressions.models import Suppression
from mailbbgun.suppressions.repo import Entry
from mailbbgun.suppressions.suppress import suppress
from mailbbgun.suppressions.unsubscribe import unsubscribe
from mailbbgun.tenants.authenticate import Authenticator

blueprint = Blueprint("suppressions", __name__, description="Recipients that nothing is sent to.")

_CSV = {"type": "string", "format": "binary"}
_HTML = {"type": "string"}
_TOO_MANY = "Too many links that are not valid came from this address."
_LIMITED = "The API key lacks the scope, or has senders or guests, so it may not stop mail of others."


@blueprint.route("/suppressions", methods=["GET"])
@blueprint.arguments(schemas.SuppressionFilters, location="query")
@blueprint.response(200, schemas.Suppressions, headers=NEXT_PAGE)
@needs(Scope.READ, tests=True)
def index(filters: dict[str, Any]) -> Any:
    """List suppressions, newest first"""
    who = caller()
    with reading(provided(Services).db) as session:
        found, count, last = repo.page(session, who.tenant_id, who.tests_only, **filters)
    return {"suppressions": found, "count": count}, 200, next_page(last)


@blueprint.route("/suppressions", methods=["POST"])
@blueprint.arguments(schemas.NewSuppressions, example={"address": "ann@example.com", "reason": "complained"})
@blueprint.response(200, schemas.Outcome, description="Stored. No delivery to them begins any more.")
@blueprint.alt_response(403, description=_LIMITED)
@needs(Scope.WRITE, tests=True)
def add(wanted: Sequence[Entry]) -> Any:
    """Suppress addresses and domains

    What waits for them ends as ERROR, suppressed. New mail to them is accepted, and not sent to them.
    To repeat it changes nothing more.
    """
    who, services = caller(), provided(Services)
    _check_unlimited(who)
    done = suppress(services.db, who.tenant_id, wanted, test=who.tests_only)
    if done.first:
        provided(Authenticator).forget(who.tenant_id)
    return done._asdict()


@blueprint.route("/suppressions/<uuid:suppression_id>", methods=["GET"])
@blueprint.response(200, schemas.SuppressionShape)
@blueprint.alt_response(404, description="No such suppression.")
@needs(Scope.READ, tests=True)
def show(suppression_id: UUID) -> Suppression:
    """Show a suppression"""
    who = caller()
    with reading(provided(Services).db) as session:
        found = repo.one(session, who.tenant_id, who.tests_only, suppression_id)
    if found is None:
        raise _missing()
    return found


@blueprint.route("/suppressions/<uuid:suppression_id>", methods=["DELETE"])
@blueprint.response(204)
@blueprint.alt_response(403, description=_LIMITED)
@blueprint.alt_response(404, description="No such suppression.")
@needs(Scope.WRITE, tests=True)
def remove(suppression_id: UUID) -> None:
    """Remove a suppression

    New mail goes there again. Deliveries that were stopped stay stopped until they are retried.
    """
    who = caller()
    with provided(Services).db.write(who.tenant_id, tests_only=who.tests_only) as session:
        if repo.one(session, who.tenant_id, who.tests_only, suppression_id) is not None:
            _check_unlimited(who)
        if not repo.remove(session, who.tenant_id, who.tests_only, suppression_id):
            raise _missing()


@blueprint.route("/suppressions/export", methods=["GET"])
@blueprint.response(200, _CSV, content_type="text/csv", description="All of them, newest first, as CSV.")
@needs(Scope.READ, tests=True)
def export() -> Response:
    """Download all suppressions as CSV"""
    who = caller()
    lines = transfer.write(provided(Services).db, who.tenant_id, test=who.tests_only)
    named = {"Content-Disposition": 'attachment; filename="suppressions.csv"'}
    first = next(lines)  # made now: if the database is away, the answer says so
    return StreamedResponse(chain([first], lines), mimetype="text/csv", headers=named)


@blueprint.route("/suppressions/import", methods=["POST"])
@blueprint.taking("text/csv", _CSV)
@blueprint.response(200, schemas.Imported, description="Stored, but for the rejected rows.")
@blueprint.alt_response(400, description="It is no CSV, or names no column with addresses or domains.")
@blueprint.alt_response(403, description=_LIMITED)
@blueprint.alt_response(413, description="Larger than MAX_BODY_SIZE.")
@blueprint.alt_response(415, description="Not declared as text/csv.")
@needs(Scope.WRITE, tests=True)
def import_csv() -> Any:
    """Suppress what a CSV lists

    Its first line names the columns: address (or email) or domain, and if wanted reason and expires_at.
    """
    who, services = caller(), provided(Services)
    _check_unlimited(who)
    if request.mimetype != "text/csv":
        raise UnsupportedMediaType("Send CSV in UTF-8 and say so: -H 'Content-Type: text/csv' --data-binary @file.csv.")
    try:
        done = transfer.read(services.db, who.tenant_id, transfer.lines_of(request.stream), test=who.tests_only)
    except UnicodeDecodeError as error:
        wrong = {"csv": ["Is not in UTF-8."]}
        raise InvalidInput("The CSV cannot be read: it is not in UTF-8.", fields=wrong) from error
    if done.first:
        provided(Authenticator).forget(who.tenant_id)
    return done


@blueprint.route("/unsubscribe/<string:token>", methods=["GET"])
@blueprint.response(200, _HTML, content_type="text/html", description="A page with a button.")
@blueprint.alt_response(404, schema=_HTML, content_type="text/html", description="The link is not valid.")
@blueprint.alt_response(429, description=_TOO_MANY)
def ask_to_unsubscribe(token: str) -> Response:
    """Show the page on which a recipient unsubscribes

    It changes nothing: programs that look at links in mail open it, too.
    """
    link = _link(token)
    return _html(page.wrong(_language()), 404) if link is None else _html(page.asking(_language(), link.address))


@blueprint.route("/unsubscribe/<string:token>", methods=["POST"])
@blueprint.response(200, _HTML, content_type="text/html", description="Unsubscribed, now or before.")
@blueprint.alt_response(404, schema=_HTML, content_type="text/html", description="The link is not valid.")
@blueprint.alt_response(429, description=_TOO_MANY)
def unsubscribe_now(token: str) -> Response:
    """Unsubscribe the recipient of a mail, by the link in it

    The recipient's mail provider does this at one click (RFC 8058), or the button of the page. No API
    key is needed: the link is signed.
    """
    link = _link(token)
    if link is None:
        return _html(page.wrong(_language()), 404)
    if unsubscribe(provided(Services).db, link):
        provided(Authenticator).forget(link.tenant_id)
    return _html(page.done(_language(), link.address))


def _link(token: str) -> UnsubscribeLink | None:
    """Return what a token says. Raises :class:`RateLimited` if too many from this client were not ours."""
    link = provided(UnsubscribeLinks).read(token)
    if link is None:
        standing = provided(Rates).address(request.remote_addr, failed=True)
        if not standing.allowed:
            raise RateLimited("Too many links that are not valid.", limit=standing.limit, retry_after=standing.seconds)
    return link


def _language() -> str:
    wanted = (one.partition("-")[0].lower() for one in request.accept_languages.values())  # best first
    return next((one for one in wanted if one in page.WORDS), "en")


def _html(text: str, status: int = 200) -> Response:
    return Response(text, status, page.HEADERS, mimetype="text/html")


def _check_unlimited(who: Caller) -> None:
    if who.kind is KeyKind.TEAM or who.senders:
        raise Forbidden("This API key has senders or guests: it may not stop mail that others send.")


def _missing() -> NotFound:
    return NotFound("There is no such suppression.")
