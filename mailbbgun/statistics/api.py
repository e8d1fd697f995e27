"""``GET /statistics``."""

from datetime import UTC, datetime
from typing import Any

from flask import Response, current_app, request

from mailbbgun.core.caller import Scope
from mailbbgun.database.deadline import at_most
from mailbbgun.http.blueprint import Blueprint
from mailbbgun.http.gate import caller, needs, reading
from mailbbgun.http.provided import provided
from mailbbgun.services import Services
from mailbbgun.statistics import figures
from mailbbgun.statistics.schemas import AskedAs, FiguresShape, dumped
from mailbbgun.statistics.table import as_csv

#: Seconds that the database may take for one answer.
SECONDS = 10.0

_TOO_SLOW = f"It takes the database longer than {SECONDS:g} s to sum this up; choose a shorter period."

_DESCRIPTION = "With format=csv, or Accept: text/csv, it is CSV."

blueprint = Blueprint("statistics", __name__, description="How much was sent, what became of it, how long it took.")


@blueprint.route("/statistics")
@blueprint.arguments(AskedAs, location="query")
@blueprint.response(200, FiguresShape, description=_DESCRIPTION)
@blueprint.alt_response(200, schema={"type": "string"}, content_type="text/csv", description=_DESCRIPTION)
@blueprint.alt_response(503, description="It takes the database too long, or it does not answer.")
@needs(Scope.READ, tests=True)
def show(asked: dict[str, Any]) -> Any:
    """Show how much was sent, what became of it, and how long it took

    Each event counts at the time at which it happened; the newest ones are counted within seconds. One
    label may be chosen (tag, domain or account), or figures grouped by one. CSV has a row for each group,
    or for each interval without group_by.
    """
    who, services = caller(), provided(Services)
    question = figures.question(who.tenant_id, who.tests_only, asked, services.settings, datetime.now(UTC))
    with reading(services.db) as session, at_most(session, SECONDS, _TOO_SLOW):
        found = figures.answer(session, question)
    if _wants_csv(asked["format"]):
        named = {"Content-Disposition": 'attachment; filename="statistics.csv"'}
        return Response(as_csv(found), mimetype="text/csv", headers=named)
    return current_app.json.response(dumped(found))


def _wants_csv(named: str | None) -> bool:
    if named:
        return named == "csv"
    return request.accept_mimetypes.best_match(["application/json", "text/csv"]) == "text/csv"
