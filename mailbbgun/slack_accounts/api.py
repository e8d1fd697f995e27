"""The HTTP routes of Slack accounts, ``/slack/accounts``. They need the scope ``accounts``."""

import logging
from typing import Any, cast
from uuid import UUID

from sqlalchemy.orm import Session

from mailbbgun.core.caller import Scope
from mailbbgun.database import idempotency
from mailbbgun.http.blueprint import Blueprint
from mailbbgun.http.gate import caller, needs
from mailbbgun.http.provided import provided
from mailbbgun.http.responses import created
from mailbbgun.http.schemas import LOCATION, REPLAYED, Page, Repeatable
from mailbbgun.http.urls import NEXT_PAGE, address_of, next_page
from mailbbgun.services import Services
from mailbbgun.slack_accounts import edit, repo, schemas
from mailbbgun.slack_accounts.connection_test import SlackTests, target_of
from mailbbgun.slack_accounts.models import SlackAccount
from mailbbgun.tenants import keys

blueprint = Blueprint("slack_accounts", __name__, description="Bots and webhooks that post to Slack.")

#: What an answer shows, by its names in the table.
SHOWN = tuple(one.attribute or name for name, one in schemas.SlackAccountShape().fields.items())

_NONE = "No such account."
_NAMED = "There is an account of that name, or there are too many."
_LIMITED = "The API key lacks the scope accounts, or has senders or guests."

log = logging.getLogger("mailbbgun.accounts")


@blueprint.route("/slack/accounts", methods=["GET"])
@blueprint.arguments(Page, location="query")
@blueprint.response(200, schemas.SlackAccounts, headers=NEXT_PAGE)
@needs(Scope.ACCOUNTS)
def index(page: dict[str, Any]) -> Any:
    """List your Slack accounts, newest first"""
    tenant_id = caller().tenant_id
    with provided(Services).db.read(tenant_id) as session:
        accounts, count, last = repo.page(session, tenant_id, **page)
    return {"slack_accounts": accounts, "count": count}, 200, next_page(last)


@blueprint.route("/slack/accounts", methods=["POST"])
@blueprint.arguments(
    schemas.NewSlackAccount,
    example={"name": "ops", "bot_token": "xoxb-1234-5678-abcdefghijkl", "default_channel": "#alerts"},
)
@blueprint.arguments(Repeatable, location="headers")
@blueprint.response(201, schemas.SlackAccountShape, headers=LOCATION | REPLAYED)
@blueprint.alt_response(409, description=_NAMED)
@blueprint.alt_response(422, description="The Idempotency-Key was used for another body.")
@blueprint.alt_response(403, description=_LIMITED)
@needs(Scope.ACCOUNTS)
def create(wanted: dict[str, Any], key: dict[str, str | None]) -> Any:
    """Set up a Slack account

    It is a bot's token, or the URL of an incoming webhook.
    """
    services, tenant_id = provided(Services), caller().tenant_id
    edit.check_caller(caller())

    def add(account_id: UUID) -> dict[str, Any]:
        api_url = services.settings.SLACK_API_URL
        return _shape(edit.create(session, services.vault, api_url, tenant_id, account_id, wanted))

    with services.db.write(tenant_id) as session:
        claim = _claim(session, key["key"], wanted)
        answer, replayed = idempotency.once(session, claim, services.settings.IDEMPOTENCY_SECONDS, add)
    return created(answer, address_of("slack_accounts.show", slack_account_id=answer["id"]), replayed)


@blueprint.route("/slack/accounts/<uuid:slack_account_id>", methods=["GET"])
@blueprint.response(200, schemas.SlackAccountShape)
@blueprint.alt_response(404, description=_NONE)
@needs(Scope.ACCOUNTS)
def show(slack_account_id: UUID) -> Any:
    """Show a Slack account"""
    tenant_id = caller().tenant_id
    with provided(Services).db.read(tenant_id) as session:
        return _values(edit.found(session, tenant_id, slack_account_id))


@blueprint.route("/slack/accounts/<uuid:slack_account_id>", methods=["PATCH"])
@blueprint.arguments(schemas.SlackAccountChange)
@blueprint.response(200, schemas.SlackAccountShape)
@blueprint.alt_response(404, description=_NONE)
@blueprint.alt_response(409, description=_NAMED)
@blueprint.alt_response(403, description=_LIMITED)
@needs(Scope.ACCOUNTS)
def change(wanted: dict[str, Any], slack_account_id: UUID) -> Any:
    """Change a Slack account

    Messages that wait go through the account as it is then.
    """
    services, tenant_id = provided(Services), caller().tenant_id
    edit.check_caller(caller())
    with services.db.write(tenant_id) as session:
        edit.change(session, services.vault, services.settings.SLACK_API_URL, tenant_id, slack_account_id, wanted)
    with services.db.read(tenant_id) as session:
        return _values(edit.found(session, tenant_id, slack_account_id))


@blueprint.route("/slack/accounts/<uuid:slack_account_id>", methods=["DELETE"])
@blueprint.response(204)
@blueprint.alt_response(404, description=_NONE)
@blueprint.alt_response(403, description=_LIMITED)
@needs(Scope.ACCOUNTS)
def remove(slack_account_id: UUID) -> Any:
    """Delete a Slack account

    Messages that wait for it end as ERROR.
    """
    tenant_id = caller().tenant_id
    edit.check_caller(caller())
    with provided(Services).db.write(tenant_id) as session:
        if not repo.remove(session, tenant_id, slack_account_id):
            raise edit.missing()


@blueprint.route("/slack/accounts/<uuid:slack_account_id>/test", methods=["POST"])
@blueprint.response(200, schemas.SlackTestResult)
@blueprint.alt_response(404, description=_NONE)
@blueprint.alt_response(503, description="Too many tests are running, or the secret cannot be decrypted.")
@blueprint.alt_response(403, description=_LIMITED)
@needs(Scope.ACCOUNTS)
def test(slack_account_id: UUID) -> Any:
    """Test a Slack account

    Slack is asked who the bot is, or whether the webhook exists. Nothing is posted.
    """
    services, tenant_id = provided(Services), caller().tenant_id
    edit.check_caller(caller())
    with services.db.read(tenant_id) as session:
        account = edit.found(session, tenant_id, slack_account_id)
        target = target_of(account, services.vault)
    found = provided(SlackTests).run(target)
    log.info("account_tried", extra={"account_id": slack_account_id, "tenant_id": tenant_id, "ok": found["ok"]})
    return found


def _claim(session: Session, key: str | None, wanted: dict[str, Any]) -> idempotency.KeyClaim | None:
    if key is None:
        return None
    pepper = keys.pepper(session, provided(Services).vault)
    return idempotency.claim_of(caller(), key, {"slack_account": wanted}, pepper)


def _values(account: SlackAccount) -> dict[str, Any]:
    """Return what an answer shows of an account, read while the session is open."""
    return {name: getattr(account, name) for name in SHOWN}


def _shape(account: SlackAccount) -> dict[str, Any]:
    return cast(dict[str, Any], schemas.SlackAccountShape().dump(account))
