"""The HTTP routes of attachments, ``/attachments``: their content too, and uploads straight to the store."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from flask import Response, request

from mailbbgun.attachments import content, find, receive, repo, uploads
from mailbbgun.attachments.inspection import Inspector
from mailbbgun.attachments.models import Attachment, Blob, key_of
from mailbbgun.attachments.schemas import (
    AttachmentFilters,
    Attachments,
    AttachmentShape,
    Presign,
    Presigned,
    SignedUpload,
    UploadedFiles,
)
from mailbbgun.attachments.signing import Signing
from mailbbgun.core.caller import Scope
from mailbbgun.core.errors import InvalidInput, StorageFull, TooLarge
from mailbbgun.database import idempotency
from mailbbgun.http.blueprint import Blueprint
from mailbbgun.http.gate import caller, needs, reading, signed
from mailbbgun.http.provided import provided
from mailbbgun.http.responses import ReadyResponse
from mailbbgun.http.schemas import REPLAYED, Repeatable
from mailbbgun.http.uploads.admission import read_blocks, read_form, takes_uploads
from mailbbgun.http.urls import address_of, next_page
from mailbbgun.services import Services
from mailbbgun.tenants import storage

#: Seconds that a link to a file in the store is valid.
LINK_SECONDS = 300

#: What a page of another site needs to upload a file to a URL that it was given (Fetch §3.2).
FOR_PAGES = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "PUT",
    "Access-Control-Allow-Headers": "content-type",
    "Access-Control-Max-Age": "3600",
}

#: The body of an upload by a form, for the OpenAPI document.
FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": {"type": "array", "items": {"type": "string", "format": "binary"}}},
            }
        }
    },
}

_NONE = "There is no such attachment."
_AWAY = "The store of files does not answer; nothing was changed."
#: For each route that stores files.
FULL = "The tenant's files have all the bytes that they may have (max_storage). Nothing is stored."

blueprint = Blueprint("attachments", __name__, description="Files for mails, stored once and named as often as wanted.")


@blueprint.route("/attachments")
@blueprint.arguments(AttachmentFilters, location="query")
@blueprint.response(200, Attachments)
@needs(Scope.READ, tests=True)
def index(filters: dict[str, Any]) -> Any:
    """List attachments, newest first"""
    who = caller()
    with reading(provided(Services).db) as session:
        found, count, last = repo.page(
            session, repo.WantedAttachments(tenant_id=who.tenant_id, tests_only=who.tests_only, **filters)
        )
    return {"attachments": found, "count": count}, 200, next_page(last)


@blueprint.route("/attachments", methods=["POST"])
@blueprint.doc(requestBody=FORM)
@blueprint.arguments(Repeatable, location="headers")
@blueprint.response(201, UploadedFiles, headers=REPLAYED)
@blueprint.alt_response(400, description="A file has no name, or the form is malformed. Nothing is stored.")
@blueprint.alt_response(413, description="A file is larger than MAX_FILE_SIZE, or there are too many.")
@blueprint.alt_response(415, description="The body is no multipart/form-data, or has a Content-Encoding.")
@blueprint.alt_response(422, description="A file may not be sent, or the Idempotency-Key was used for other files.")
@blueprint.alt_response(503, description=_AWAY)
@blueprint.alt_response(507, description=FULL)
@takes_uploads()
@needs(Scope.WRITE, tests=True)
def upload(headers: dict[str, str | None]) -> Any:
    """Upload files

    Each is a part `file` of the form. Messages name them by `id`, or by digest.
    """
    services = provided(Services)
    answer, replayed = receive.receive(services, provided(Inspector), caller(), read_form(), headers["key"])
    return ReadyResponse.of(201, answer, {"Idempotent-Replayed": "true"} if replayed else {})


@blueprint.route("/attachments/<uuid:attachment_id>")
@blueprint.response(200, AttachmentShape)
@blueprint.alt_response(404, description=_NONE)
@needs(Scope.READ, tests=True)
def show(attachment_id: UUID) -> Any:
    """Show an attachment"""
    with reading(provided(Services).db) as session:
        return find.attachment(session, caller(), attachment_id)


@blueprint.route("/attachments/<uuid:attachment_id>", methods=["DELETE"])
@blueprint.response(204)
@blueprint.alt_response(404, description=_NONE)
@needs(Scope.WRITE, tests=True)
def remove(attachment_id: UUID) -> Any:
    """Delete an attachment

    Messages that name it keep its content until they have left. Its content goes within two hours,
    unless another attachment or a message has it.
    """
    who, db = caller(), provided(Services).db
    with db.write(who.tenant_id, tests_only=who.tests_only) as session:
        its = find.attachment(session, who, attachment_id)
        repo.remove(session, who.tenant_id, attachment_id, tests_only=who.tests_only)
    if its.sha256 is not None:
        with db.write(who.tenant_id) as session:  # tests and live data share blobs
            repo.look_soon(session, who.tenant_id, its.sha256)


@blueprint.route("/attachments/<uuid:attachment_id>/content")
@blueprint.response(
    200,
    {"type": "string", "format": "binary"},
    content_type="application/octet-stream",
    description="The file, as a download under its name, with its own Content-Type.",
)
@blueprint.alt_response(302, description="The file is at `Location`, for some minutes.")
@blueprint.alt_response(404, description=_NONE)
@blueprint.alt_response(409, description="The file has not been uploaded yet, or another one was.")
@blueprint.alt_response(422, description="The virus scanner found something in the file.")
@blueprint.alt_response(503, description=_AWAY)
@needs(Scope.READ, tests=True)
def download(attachment_id: UUID) -> Response:
    """Download a file"""
    services, who = provided(Services), caller()
    its, blob = find.content_of(services.db, services.blobs, who, attachment_id, most=services.settings.MAX_FILE_SIZE)
    return sent(services, blob, its.filename, its.content_type)


@blueprint.route("/attachments/presign", methods=["POST"])
@blueprint.arguments(Presign)
@blueprint.arguments(Repeatable, location="headers")
@blueprint.response(200, Presigned, headers=REPLAYED)
@blueprint.alt_response(422, description="The Idempotency-Key was used for another body.")
@blueprint.alt_response(503, description=_AWAY)
@blueprint.alt_response(507, description=FULL)
@needs(Scope.WRITE, tests=True)
def presign(wanted: dict[str, Any], key: dict[str, str | None]) -> Any:
    """Get a URL for an upload straight to the store

    Name the file's digest and size. Then a browser may upload the file there, without an API key,
    within an hour. Messages name the file by the id of this attachment, or by its digest. Repeated
    with its Idempotency-Key, the request gets the same attachment, and a URL that is valid from then.
    """
    services, who = provided(Services), caller()
    claim = None if key["key"] is None else idempotency.claim_of(who, key["key"], {"presign": wanted})
    if wanted["size"] > services.settings.MAX_FILE_SIZE:
        most = f"Must be at most {services.settings.MAX_FILE_SIZE} bytes (MAX_FILE_SIZE)."
        raise InvalidInput("Some fields are not valid.", fields={"size": [most]})
    kind = "sha256" if "sha256" in wanted else "md5"
    named = {name: value for name, value in wanted.items() if name != kind}
    known = find.known(services.db, services.blobs, who, kind, wanted[kind])
    if known is not None and known.size != named["size"]:
        raise InvalidInput("Some fields are not valid.", fields={"size": [f"That file has {known.size} bytes."]})
    full = None if known else _full(services, who.tenant_id, wanted["size"])
    digests = {"sha256": known.sha256, "md5": known.md5} if known else {"awaited": f"{kind}-{wanted[kind]}"}

    def add(made: UUID) -> dict[str, Any]:
        if full is not None:  # but a repeated request gets its answer
            raise full
        repo.add(session, who.tenant_id, [{"id": made, **named, **digests}], test=who.tests_only)
        return {"id": str(made)}  # the URL is not stored: it is a permission

    with services.db.write(who.tenant_id, tests_only=who.tests_only) as session:
        answer, replayed = idempotency.once(session, claim, services.settings.IDEMPOTENCY_SECONDS, add)
        its = find.attachment(session, who, UUID(answer["id"]))
    shown = {name: getattr(its, name) for name in AttachmentShape().fields}
    upload = _upload(services, its) if its.awaited is not None else None
    return {**shown, "upload": upload}, 200, {"Idempotent-Replayed": "true"} if replayed else {}


def _full(services: Services, tenant_id: UUID, size: int) -> StorageFull | None:
    """Return the error if a tenant has no room for a file of so many bytes, beside those that it may yet upload."""
    with services.db.read(tenant_id) as session:
        try:
            storage.check_room(session, tenant_id, repo.awaited_size(session, tenant_id) + size)
        except StorageFull as error:
            return error
    return None


def _check_signed_url(**route: Any) -> None:
    """Check the URL of an upload before its body is read."""
    _check_url(blueprint.ARGUMENTS_PARSER.parse(SignedUpload(), request, location="query"), **route)


@blueprint.route("/attachments/uploads/<uuid:tenant_id>/<kind>/<awaited>", methods=["PUT"])
@blueprint.arguments(SignedUpload, location="query")
@blueprint.response(204, description="The file is stored. It is checked when it is first used.")
@blueprint.alt_response(400, description="The body has another size.")
@blueprint.alt_response(403, description="The URL is not ours, or has ended.")
@blueprint.alt_response(503, description=_AWAY)
@takes_uploads(media_type=None, admit=_check_signed_url)
@signed
def put_upload(given: dict[str, Any], tenant_id: UUID, kind: str, awaited: str) -> Any:
    """Upload a file to a URL from `POST /attachments/presign`

    The URL is the permission: no API key is needed. With S3 the URL leads to the bucket instead.
    """
    _check_url(given, tenant_id, kind, awaited)
    key = uploads.key(tenant_id, awaited, test=kind == "test")
    provided(Services).blobs.put(key, _body(given["size"]), given["size"])


def _check_url(given: dict[str, Any], tenant_id: UUID, kind: str, awaited: str) -> None:
    """Raise :class:`Forbidden` unless the URL of an upload is ours, and valid now."""
    size, path = given["size"], f"{tenant_id.hex}/{kind}/{awaited}"
    _signing().check(path, size, given["until"], given["signature"], "POST /attachments/presign")
    if request.content_length not in (None, size):
        raise InvalidInput(f"The body has {request.content_length} bytes, and the URL is for a file of {size}.")


def _signing() -> Signing:
    services = provided(Services)
    return Signing(services.db, services.vault)


@blueprint.after_request  # type: ignore[untyped-decorator]  # flask-smorest has no types
def _for_pages(answer: Response) -> Response:
    if request.endpoint == f"{blueprint.name}.put_upload":
        answer.headers.update(FOR_PAGES)
    return answer


def sent(services: Services, blob: Blob, filename: str, content_type: str) -> Response:
    """Return a response with a content under a name, or one that leads to it in the store for some minutes.

    Raises :class:`BlobMissing`, :class:`BlobStoreUnavailable`.
    """
    disposition = content.disposition(filename)
    link = services.blobs.presigned_get(key_of(blob.tenant_id, blob.object_id), LINK_SECONDS, disposition, content_type)
    if link is not None:
        return Response(status=302, headers={"Location": _public(link)})
    opened = content.opened(services.blobs, blob.tenant_id, blob.object_id, sha256=blob.sha256, size=blob.size)
    blocks = opened.__enter__()  # before the head is sent, so that a missing file is an error
    headers = {"Content-Type": content_type, "Content-Length": str(blob.size), "Content-Disposition": disposition}
    answer = Response(blocks, headers=headers)
    answer.call_on_close(lambda: opened.__exit__(None, None, None))
    return answer


def _upload(services: Services, made: Attachment) -> dict[str, Any]:
    """Return how the file of an attachment is uploaded."""
    assert made.awaited is not None
    ends = uploads.until()
    link = services.blobs.presigned_put(uploads.key(made.tenant_id, made.awaited, test=made.test), uploads.SECONDS)
    if link is None:
        kind = "test" if made.test else "live"
        path = f"{made.tenant_id.hex}/{kind}/{made.awaited}"
        query = {"size": made.size, "until": int(ends.timestamp())}
        proof = _signing().sign(path, made.size, query["until"])
        named = {"tenant_id": made.tenant_id, "kind": kind, "awaited": made.awaited}
        link = address_of("attachments.put_upload", **named, **query, signature=proof)
    else:
        link = _public(link)
    return {"method": "PUT", "url": link, "headers": {"Content-Type": made.content_type}, "until": ends}


def _public(link: str) -> str:
    """Return a link to the store with the public host in front of it, if there is one."""
    public = provided(Services).settings.CDN_URL
    if not public:
        return link
    parts = urlsplit(link)
    return f"{public.rstrip('/')}{parts.path}?{parts.query}"


def _body(size: int) -> Iterator[bytes]:
    """Yield the request's body, which must have so many bytes."""
    left = size
    for block in read_blocks():
        left -= len(block)
        if left < 0:
            raise TooLarge(f"The body has more than {size} bytes, for which the URL is.")
        yield block
    if left:
        raise InvalidInput(f"The body has {size - left} bytes, and the URL is for a file of {size}.")
