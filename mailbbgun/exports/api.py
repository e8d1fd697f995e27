"""``GET /exports/messages``, ``/exports/events`` and ``/exports/statistics``."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from flask import Response, request

from mailbbgun.core.caller import Scope
from mailbbgun.exports import pages
from mailbbgun.exports.running import RunningExports
from mailbbgun.exports.schemas import EventsExport, MessagesExport, StatisticsExport, event_filters
from mailbbgun.exports.writing import CSV, MIMETYPES, NDJSON, lines
from mailbbgun.http.blueprint import Blueprint
from mailbbgun.http.gate import caller, needs
from mailbbgun.http.provided import provided
from mailbbgun.http.responses import StreamedResponse
from mailbbgun.messages.repo import Wanted
from mailbbgun.services import Services
from mailbbgun.statistics import figures

blueprint = Blueprint("exports", __name__, description="All messages, events or statistics as one file.")

_FILE = {"type": "string", "format": "binary"}
_DESCRIPTION = "NDJSON: each line is a JSON object. With format=csv, or Accept: text/csv, it is CSV."


@blueprint.route("/exports/messages")
@blueprint.arguments(MessagesExport, location="query")
@blueprint.response(200, _FILE, content_type=MIMETYPES[NDJSON], description=_DESCRIPTION)
@blueprint.alt_response(200, schema=_FILE, content_type=MIMETYPES[CSV], description=_DESCRIPTION)
@blueprint.alt_response(503, description="It takes the database too long to find the first rows.")
@needs(Scope.READ, tests=True)
def messages(filters: dict[str, Any]) -> Response:
    """Download all messages that match, newest first

    The filters are those of `GET /messages`. Messages that are accepted while the file is written may be in
    it or not. Two exports of a tenant run at once in each process; then others get 429.
    """
    who, form = caller(), _form(filters.pop("format"))
    wanted = Wanted(tenant_id=who.tenant_id, tests_only=who.tests_only, limit=0, offset=0, after=None, **filters)
    return _file("messages", form, pages.messages(_reading(), wanted), pages.MESSAGE_COLUMNS)


@blueprint.route("/exports/events")
@blueprint.arguments(EventsExport, location="query")
@blueprint.response(200, _FILE, content_type=MIMETYPES[NDJSON], description=_DESCRIPTION)
@blueprint.alt_response(200, schema=_FILE, content_type=MIMETYPES[CSV], description=_DESCRIPTION)
@needs(Scope.READ, tests=True)
def events(asked: dict[str, Any]) -> Response:
    """Download all events that match, oldest first

    It ends with the last event from before the request. Two exports of a tenant run at once in each
    process; then others get 429.
    """
    who, form = caller(), _form(asked["format"])
    database = provided(Services).db
    found = pages.events(database, who.tenant_id, event_filters(asked), tests_only=who.tests_only)
    return _file("events", form, found, pages.EVENT_COLUMNS)


@blueprint.route("/exports/statistics")
@blueprint.arguments(StatisticsExport, location="query")
@blueprint.response(200, _FILE, content_type=MIMETYPES[NDJSON], description=_DESCRIPTION)
@blueprint.alt_response(200, schema=_FILE, content_type=MIMETYPES[CSV], description=_DESCRIPTION)
@needs(Scope.READ, tests=True)
def statistics(asked: dict[str, Any]) -> Response:
    """Download the figures of each interval, oldest first

    With group_by each interval has a row for each tag, domain or account. Intervals in which nothing
    happened have no row. Two exports of a tenant run at once in each process; then others get 429.
    """
    who, services, form = caller(), provided(Services), _form(asked["format"])
    question = figures.question(who.tenant_id, who.tests_only, asked, services.settings, datetime.now(UTC))
    return _file("statistics", form, pages.statistics(_reading(), question), pages.columns_of(question))


def _reading() -> pages.Reading:
    """Return what opens a session for the caller, also once the view has returned."""
    who, database = caller(), provided(Services).db
    return lambda: database.read(who.tenant_id, tests_only=who.tests_only)


def _form(named: str | None) -> str:
    """Return the form that the request names, by its query or its header."""
    if named:
        return named
    return CSV if request.accept_mimetypes.best_match([MIMETYPES[NDJSON], MIMETYPES[CSV]]) == MIMETYPES[CSV] else NDJSON


def _file(name: str, form: str, found: Iterator[pages.Page], columns: Sequence[str]) -> Response:
    collected = request.environ.get("SERVER_PROTOCOL") == "HTTP/1.0"  # which has no chunks
    body = provided(RunningExports).begin(caller().tenant_id, lines(found, form, columns), collected=collected)
    headers = {"Content-Disposition": f'attachment; filename="{name}.{form}"'}
    return StreamedResponse(body, mimetype=MIMETYPES[form], headers=headers)
