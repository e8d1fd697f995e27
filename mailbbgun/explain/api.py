"""``GET /messages/{id}/explain``, and the answer to ``POST /messages?dry_run=true``."""

from typing import Any, cast
from uuid import UUID

from mailbbgun.accept.api import DryRunDoor
from mailbbgun.core.caller import Scope
from mailbbgun.explain.dry_run import DryRun
from mailbbgun.explain.explain import explain
from mailbbgun.explain.schemas import DryRunShape, Explanation
from mailbbgun.http.blueprint import Blueprint
from mailbbgun.http.gate import caller, needs
from mailbbgun.http.provided import provided
from mailbbgun.http.responses import ReadyResponse
from mailbbgun.services import Services

blueprint = Blueprint("explain", __name__, description="Why a message is where it is.")


@blueprint.route("/messages/<uuid:message_id>/explain", methods=["GET"], tags=["messages"])
@blueprint.response(200, Explanation)
@blueprint.alt_response(404, description="No such message.")
@needs(Scope.READ, tests=True)
def show(message_id: UUID) -> Any:
    """Explain in plain words why each delivery is where it is"""
    who = caller()
    return explain(provided(Services), who.tenant_id, message_id, tests_only=who.tests_only)


def door(dry_run: DryRun) -> DryRunDoor:
    """Return what answers ``POST /messages?dry_run=true``."""
    return DryRunDoor(lambda *given: ReadyResponse.of(200, cast(Any, DryRunShape().dump(dry_run.run(*given))), {}))
