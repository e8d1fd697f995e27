"""The HTTP routes of the mail in mailboxes. They need the scope ``mailboxes``.

Mail to local domains is never test data, so test keys are refused.
"""

from typing import Any
from uuid import UUID

from flask import Response

from mailbbgun.attachments.content import disposition
from mailbbgun.core.caller import Scope
from mailbbgun.core.errors import NotFound
from mailbbgun.http.blueprint import Blueprint
from mailbbgun.http.gate import caller, needs, reading
from mailbbgun.http.provided import provided
from mailbbgun.http.urls import NEXT_PAGE, address_of, next_page
from mailbbgun.mailbox_messages import repo, schemas, shown
from mailbbgun.mailboxes import edit
from mailbbgun.mailboxes.models import MailboxMessage
from mailbbgun.mime_reading.read import content
from mailbbgun.services import Services

blueprint = Blueprint("mailbox_messages", __name__, description="The mail in mailboxes of local domains.")

_NO_MAILBOX = "No such mailbox."
_NONE = "No such mailbox, or no such mail in it."
_BINARY = {"type": "string", "format": "binary"}
#: Of bytes that strangers sent: a browser that shows them all the same runs nothing, and lets them see nothing.
_SANDBOX = {"Content-Security-Policy": "sandbox; default-src 'none'", "X-Content-Type-Options": "nosniff"}


@blueprint.route("/mailboxes/<string:address>/folders")
@blueprint.response(200, schemas.FolderList)
@blueprint.alt_response(404, description=_NO_MAILBOX)
@needs(Scope.MAILBOXES)
def folders(address: str) -> Any:
    """List the folders of a mailbox, with how much is in each"""
    who = caller()
    with reading(provided(Services).db) as session:
        mailbox = edit.found(session, who.tenant_id, address).id
        return {"folders": [one._asdict() for one in repo.folders(session, who.tenant_id, mailbox)]}


@blueprint.route("/mailboxes/<string:address>/messages")
@blueprint.arguments(schemas.MailFilters, location="query")
@blueprint.response(200, schemas.MailPage, headers=NEXT_PAGE)
@blueprint.alt_response(404, description=_NO_MAILBOX)
@needs(Scope.MAILBOXES)
def index(filters: dict[str, Any], address: str) -> Any:
    """List the mail in a mailbox, newest first"""
    who = caller()
    with reading(provided(Services).db) as session:
        mailbox = edit.found(session, who.tenant_id, address).id
        found, count, last = repo.page(session, repo.WantedMail(who.tenant_id, mailbox, **filters))
    return {"messages": found, "count": count}, 200, next_page(last)


@blueprint.route("/mailboxes/<string:address>/messages/<uuid:mail_id>")
@blueprint.arguments(schemas.MailShown, location="query")
@blueprint.response(200, schemas.MailDetails)
@blueprint.alt_response(404, description=_NONE)
@needs(Scope.MAILBOXES)
def show(how: dict[str, bool], address: str, mail_id: UUID) -> Any:
    """Show a mail as its sender meant it

    Its `read` does not change by this.
    """
    one, raw = _with_bytes(address, mail_id)
    return shown.details(one, raw, lambda number: _address(address, mail_id, number), remote=how["remote"])


@blueprint.route("/mailboxes/<string:address>/messages/<uuid:mail_id>/raw")
@blueprint.response(200, _BINARY, content_type="message/rfc822", description="The mail, byte for byte.")
@blueprint.alt_response(404, description=_NONE)
@needs(Scope.MAILBOXES)
def download(address: str, mail_id: UUID) -> Response:
    """Download a mail as it was received"""
    _one, raw = _with_bytes(address, mail_id)
    return _sent(raw, f"{mail_id}.eml", "message/rfc822")


@blueprint.route("/mailboxes/<string:address>/messages/<uuid:mail_id>/attachments/<int:number>")
@blueprint.response(200, _BINARY, content_type="application/octet-stream", description="The file, as a download.")
@blueprint.alt_response(404, description="No such mailbox or mail, or the mail has no such file.")
@needs(Scope.MAILBOXES)
def attachment(address: str, mail_id: UUID, number: int) -> Response:
    """Download a file of a mail"""
    _one, raw = _with_bytes(address, mail_id)
    found = content(raw, number)
    if found is None:
        raise NotFound("The mail has no such attachment.")
    name = found.attachment.filename or f"attachment-{number}"
    return _sent(found.data, name, found.attachment.content_type)


@blueprint.route("/mailboxes/<string:address>/messages/<uuid:mail_id>", methods=["PATCH"])
@blueprint.arguments(schemas.MailChange)
@blueprint.response(200, schemas.MailListed)
@blueprint.alt_response(404, description=_NONE)
@needs(Scope.MAILBOXES)
def change(given: dict[str, Any], address: str, mail_id: UUID) -> Any:
    """Mark a mail as read, or move it to another folder"""
    tenant_id = caller().tenant_id
    with provided(Services).db.write(tenant_id) as session:
        mailbox = edit.found(session, tenant_id, address).id
        repo.change(session, repo.mail(session, tenant_id, mailbox, mail_id), given)
        return repo.mail(session, tenant_id, mailbox, mail_id)


@blueprint.route("/mailboxes/<string:address>/messages/<uuid:mail_id>", methods=["DELETE"])
@blueprint.response(204)
@blueprint.alt_response(404, description=_NONE)
@needs(Scope.MAILBOXES)
def remove(address: str, mail_id: UUID) -> Any:
    """Delete a mail from a mailbox

    It stays in other mailboxes, and in the list of messages.
    """
    tenant_id = caller().tenant_id
    with provided(Services).db.write(tenant_id) as session:
        repo.remove(session, repo.mail(session, tenant_id, edit.found(session, tenant_id, address).id, mail_id))


def _with_bytes(address: str, mail_id: UUID) -> tuple[MailboxMessage, bytes]:
    """Return a mail and its bytes. Raises :class:`NotFound`."""
    tenant_id = caller().tenant_id
    with reading(provided(Services).db) as session:
        one = repo.mail(session, tenant_id, edit.found(session, tenant_id, address).id, mail_id)
        return one, repo.raw(session, one)


def _address(address: str, mail_id: UUID, number: int) -> str:
    return address_of("mailbox_messages.attachment", address=address, mail_id=mail_id, number=number)


def _sent(data: bytes, filename: str, content_type: str) -> Response:
    headers = _SANDBOX | {"Content-Disposition": disposition(filename), "Content-Type": content_type}
    return Response(data, headers=headers)
