"""The HTTP routes of mailboxes, ``/mailboxes``. They need the scope ``mailboxes``.

A mailbox is named in a path by its address, in any case, or by its id.
"""

from typing import Any, cast
from uuid import UUID

from sqlalchemy.orm import Session

from mailbbgun.core.caller import Scope
from mailbbgun.database import idempotency
from mailbbgun.http.blueprint import Blueprint
from mailbbgun.http.gate import caller, needs
from mailbbgun.http.provided import provided
from mailbbgun.http.responses import created
from mailbbgun.http.schemas import LOCATION, REPLAYED, Repeatable
from mailbbgun.http.urls import NEXT_PAGE, address_of, next_page
from mailbbgun.mailboxes import edit, repo, schemas
from mailbbgun.mailboxes.models import LocalMailbox
from mailbbgun.services import Services

blueprint = Blueprint("mailboxes", __name__, description="Mailboxes of local domains, and their aliases.")

_NONE = "No such mailbox."
_TAKEN = "The address is taken, or another mailbox is the catch-all; or there are too many."


@blueprint.route("/mailboxes", methods=["GET"])
@blueprint.arguments(schemas.MailboxFilters, location="query")
@blueprint.response(200, schemas.Mailboxes, headers=NEXT_PAGE)
@needs(Scope.MAILBOXES)
def index(wanted: dict[str, Any]) -> Any:
    """List your mailboxes, newest first, with their size"""
    tenant_id, domain = caller().tenant_id, wanted.pop("domain")
    if domain is not None:
        domain = edit.domain_of(domain)
    with provided(Services).db.read(tenant_id) as session:
        found, count, last = repo.page(session, tenant_id, **wanted, domain=domain)
        shown = edit.shapes(session, tenant_id, found)
    return {"mailboxes": shown, "count": count}, 200, next_page(last)


@blueprint.route("/mailboxes", methods=["POST"])
@blueprint.arguments(schemas.NewMailbox)
@blueprint.arguments(Repeatable, location="headers")
@blueprint.response(201, schemas.MailboxShape, headers=LOCATION | REPLAYED)
@blueprint.alt_response(409, description=_TAKEN)
@blueprint.alt_response(422, description="The Idempotency-Key was used for another body.")
@needs(Scope.MAILBOXES)
def create(wanted: dict[str, Any], key: dict[str, str | None]) -> Any:
    """Add a mailbox

    Mail to its address is kept in it from now on.
    """
    services, tenant_id = provided(Services), caller().tenant_id

    def add(mailbox_id: UUID) -> dict[str, Any]:
        made = edit.create(session, tenant_id, mailbox_id, wanted)
        return cast(dict[str, Any], schemas.MailboxShape().dump(edit.shapes(session, tenant_id, [made])[0]))

    with services.db.write(tenant_id) as session:
        claim = idempotency.claim_of(caller(), key["key"], {"mailbox": wanted}) if key["key"] else None
        answer, replayed = idempotency.once(session, claim, services.settings.IDEMPOTENCY_SECONDS, add)
    return created(answer, address_of("mailboxes.show", address=answer["address"]), replayed)


@blueprint.route("/mailboxes/<string:address>", methods=["GET"])
@blueprint.response(200, schemas.MailboxShape)
@blueprint.alt_response(404, description=_NONE)
@needs(Scope.MAILBOXES)
def show(address: str) -> Any:
    """Show a mailbox, with its size"""
    with provided(Services).db.read(caller().tenant_id) as session:
        return _shown(session, _found(session, address))


@blueprint.route("/mailboxes/<string:address>", methods=["PATCH"])
@blueprint.arguments(schemas.Quotas)
@blueprint.response(200, schemas.MailboxShape)
@blueprint.alt_response(404, description=_NONE)
@blueprint.alt_response(409, description="Another mailbox is the catch-all of the domain.")
@needs(Scope.MAILBOXES)
def change(wanted: dict[str, Any], address: str) -> Any:
    """Change the quotas of a mailbox, or whether it is the catch-all

    What is in it stays, also beyond a smaller quota.
    """
    with provided(Services).db.write(caller().tenant_id) as session:
        edit.change(session, _found(session, address), wanted)
        return _shown(session, _found(session, address))


@blueprint.route("/mailboxes/<string:address>", methods=["DELETE"])
@blueprint.response(204)
@blueprint.alt_response(404, description=_NONE)
@needs(Scope.MAILBOXES)
def remove(address: str) -> Any:
    """Delete a mailbox with all mail in it"""
    tenant_id = caller().tenant_id
    with provided(Services).db.write(tenant_id) as session:
        repo.remove(session, tenant_id, _found(session, address).id)


@blueprint.route("/mailboxes/<string:address>/aliases", methods=["POST"])
@blueprint.arguments(schemas.NewAlias)
@blueprint.response(201, schemas.MailboxShape)
@blueprint.alt_response(404, description=_NONE)
@blueprint.alt_response(409, description="The address is taken, or there are too many.")
@needs(Scope.MAILBOXES)
def add_alias(wanted: dict[str, str], address: str) -> Any:
    """Add another address of a mailbox"""
    with provided(Services).db.write(caller().tenant_id) as session:
        found = _found(session, address)
        edit.add_alias(session, found, wanted["address"])
        return _shown(session, found)


@blueprint.route("/mailboxes/<string:address>/aliases/<string:alias>", methods=["DELETE"])
@blueprint.response(204)
@blueprint.alt_response(404, description="No such mailbox, or it has no such alias.")
@needs(Scope.MAILBOXES)
def remove_alias(address: str, alias: str) -> Any:
    """Delete another address of a mailbox"""
    with provided(Services).db.write(caller().tenant_id) as session:
        edit.remove_alias(session, _found(session, address), alias)


def _shown(session: Session, mailbox: LocalMailbox) -> dict[str, Any]:
    return edit.shapes(session, mailbox.tenant_id, [mailbox])[0]


def _found(session: Session, called: str) -> LocalMailbox:
    return edit.found(session, caller().tenant_id, called)
