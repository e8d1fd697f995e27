"""``POST /slack/messages``: the door for messages to Slack."""

from typing import Any

from mailbbgun.accept.api import Answer, answer
from mailbbgun.accept.fields import Options
from mailbbgun.core.caller import Scope
from mailbbgun.http.blueprint import Blueprint
from mailbbgun.http.gate import caller, needs
from mailbbgun.http.provided import provided
from mailbbgun.http.responses import PendingResponse
from mailbbgun.http.schemas import LOCATION, REPLAYED, Repeatable
from mailbbgun.http.urls import own_base
from mailbbgun.slack.schemas import NewSlackMessage
from mailbbgun.slack.sending import SlackDoor, SlackMessage

blueprint = Blueprint("slack", __name__, description="Messages to Slack.")


@blueprint.route("/slack/messages", methods=["POST"])
@blueprint.arguments(NewSlackMessage, example={"channel": "#alerts", "level": "warning", "text": "Disk 91 % full"})
@blueprint.arguments(Repeatable, location="headers")
@blueprint.response(
    201,
    Answer,
    description="Stored durably; it will be posted or you can read why not, as with a mail.",
    headers=LOCATION | REPLAYED,
)
@blueprint.alt_response(403, description="The API key lacks the scope messages:write, or has senders or guests.")
@blueprint.alt_response(422, description="The Idempotency-Key was used for another body.")
@blueprint.alt_response(503, description="The database does not answer. Repeat the request with its Idempotency-Key.")
@needs(Scope.WRITE, tests=True)
def send(given: tuple[SlackMessage, Options], headers: dict[str, str | None]) -> Any:
    """Send a message to Slack

    It has the life of a mail: `GET /messages/{id}` shows it, it is tried again, and its events are
    logged. Messages of test keys are simulated.
    """
    message, options = given
    accepting = provided(SlackDoor).accept(message, caller(), options.with_key(headers["key"]))
    messages = f"{own_base()}/messages"
    return PendingResponse(accepting, lambda: answer(accepting.result(), messages), who=caller())
