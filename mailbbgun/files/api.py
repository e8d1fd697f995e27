"""The HTTP routes of shared files, ``/files``: their content too, and links to both."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from flask import Response, request

from mailbbgun.attachments.api import FOR_PAGES, FORM, FULL, sent
from mailbbgun.attachments.inspection import Inspector
from mailbbgun.attachments.receive import UNKNOWN_TYPE, received_files
from mailbbgun.attachments.signing import Signing
from mailbbgun.attachments.uploads import until
from mailbbgun.core.caller import Caller, KeyKind, Scope
from mailbbgun.core.errors import Suspended, TooLarge
from mailbbgun.files import change, find, keep, links, names, repo
from mailbbgun.files.schemas import (
    BodyTerms,
    FileChange,
    FileFilters,
    FileLink,
    FormTerms,
    KeptFiles,
    SharedFile,
    SharedFiles,
    SignedDownload,
    SignedFile,
    UploadLink,
    WantedLink,
    WantedUpload,
)
from mailbbgun.http.blueprint import Blueprint
from mailbbgun.http.gate import caller, needs, reading, signed
from mailbbgun.http.provided import provided
from mailbbgun.http.uploads.admission import read_blocks, read_form, takes_uploads
from mailbbgun.http.urls import address_of, next_page
from mailbbgun.services import Services
from mailbbgun.tenants import repo as tenants
from mailbbgun.tenants.models import SUSPENDED

_NONE = "There is no such file."
_AWAY = "The store of files does not answer; nothing was changed."
_TAKEN = "There is another file of that name."
_REFUSED = "Such a file may not be stored."
_FILE = {"type": "string", "format": "binary"}

blueprint = Blueprint("files", __name__, description="Files that are kept under names, and shared by links.")


@blueprint.route("/files")
@blueprint.arguments(FileFilters, location="query")
@blueprint.response(200, SharedFiles)
@needs(Scope.FILES, tests=True)
def index(filters: dict[str, Any]) -> Any:
    """List files, newest first"""
    who = caller()
    with reading(provided(Services).db) as session:
        wanted = repo.WantedFiles(tenant_id=who.tenant_id, tests_only=who.tests_only, **filters)
        found, count, last = repo.page(session, wanted)
    return {"files": found, "count": count}, 200, next_page(last)


@blueprint.route("/files", methods=["POST"])
@blueprint.doc(requestBody=FORM)
@blueprint.arguments(FormTerms, location="query")
@blueprint.response(201, KeptFiles)
@blueprint.alt_response(200, schema=KeptFiles, description="None of them is new.")
@blueprint.alt_response(400, description="A name may not be, or the form is malformed. Nothing is stored.")
@blueprint.alt_response(409, description=_TAKEN)
@blueprint.alt_response(413, description="A file is larger than MAX_FILE_SIZE, or there are too many.")
@blueprint.alt_response(415, description="The body is no multipart/form-data, or has a Content-Encoding.")
@blueprint.alt_response(422, description=_REFUSED)
@blueprint.alt_response(503, description=_AWAY)
@blueprint.alt_response(507, description=FULL)
@takes_uploads()
@needs(Scope.FILES, tests=True)
def upload(given: dict[str, Any]) -> Any:
    """Upload files

    Each is a part `file` of the form, and keeps its name. An upload that is repeated changes nothing.
    """
    folder = given.pop("folder")
    form, terms = received_files(read_form()), keep.FileTerms(**given)
    made, new = keep.keep_form(provided(Services), provided(Inspector), caller(), form, folder, terms)
    return {"files": made}, 201 if new else 200


@blueprint.route("/files", methods=["PUT"])
@blueprint.doc(requestBody={"required": True, "content": {UNKNOWN_TYPE: {"schema": _FILE}}})
@blueprint.arguments(BodyTerms, location="query")
@blueprint.response(201, SharedFile)
@blueprint.alt_response(200, schema=SharedFile, description="It is not new: it was replaced, or had this content.")
@blueprint.alt_response(400, description="The name may not be. Nothing is stored.")
@blueprint.alt_response(409, description=_TAKEN)
@blueprint.alt_response(413, description="The file is larger than MAX_FILE_SIZE.")
@blueprint.alt_response(415, description="The body has a Content-Encoding.")
@blueprint.alt_response(422, description=_REFUSED)
@blueprint.alt_response(503, description=_AWAY)
@blueprint.alt_response(507, description=FULL)
@takes_uploads(media_type=None)
@needs(Scope.FILES, tests=True)
def put(given: dict[str, Any]) -> Any:
    """Upload a file as it is

    The body is the file, and `Content-Type` its type. An upload that is repeated changes nothing.
    """
    name = given.pop("name")
    return _kept(caller(), name, keep.FileTerms(**given))


@blueprint.route("/files/<uuid:file_id>")
@blueprint.response(200, SharedFile)
@blueprint.alt_response(404, description=_NONE)
@needs(Scope.FILES, tests=True)
def show(file_id: UUID) -> Any:
    """Show a file"""
    with reading(provided(Services).db) as session:
        return find.file(session, caller(), file_id)


@blueprint.route("/files/<uuid:file_id>", methods=["PATCH"])
@blueprint.arguments(FileChange)
@blueprint.response(200, SharedFile)
@blueprint.alt_response(404, description=_NONE)
@blueprint.alt_response(409, description=_TAKEN)
@blueprint.alt_response(422, description="The content may not have this extension.")
@blueprint.alt_response(503, description=_AWAY)
@needs(Scope.FILES, tests=True)
def patch(given: dict[str, Any], file_id: UUID) -> Any:
    """Rename a file, or change its details"""
    return change.change(provided(Services).db, provided(Inspector), caller(), file_id, given)


@blueprint.route("/files/<uuid:file_id>", methods=["DELETE"])
@blueprint.response(204)
@blueprint.alt_response(404, description=_NONE)
@needs(Scope.FILES, tests=True)
def remove(file_id: UUID) -> Any:
    """Delete a file

    Links to it end. Its content goes within two hours, unless another file, an attachment or a message
    has it.
    """
    change.remove(provided(Services).db, caller(), file_id)


@blueprint.route("/files/<uuid:file_id>/content")
@blueprint.response(200, _FILE, content_type=UNKNOWN_TYPE, description="The file, as a download under its name.")
@blueprint.alt_response(206, schema=_FILE, content_type=UNKNOWN_TYPE, description="The `Range` that was asked for.")
@blueprint.alt_response(302, description="The file is at `Location`, for some minutes.")
@blueprint.alt_response(304, description="It is still what `If-None-Match` says.")
@blueprint.alt_response(404, description=_NONE)
@blueprint.alt_response(416, description="The file has no such `Range`.")
@blueprint.alt_response(422, description="The virus scanner found something in the file.")
@blueprint.alt_response(503, description=_AWAY)
@needs(Scope.FILES, tests=True)
def download(file_id: UUID) -> Response:
    """Download a file"""
    return _sent(caller(), file_id)


@blueprint.route("/files/<uuid:file_id>/link", methods=["POST"])
@blueprint.arguments(WantedLink)
@blueprint.response(200, FileLink)
@blueprint.alt_response(404, description=_NONE)
@needs(Scope.FILES, tests=True)
def link(wanted: dict[str, Any], file_id: UUID) -> Any:
    """Get a link to a file

    Anybody who has it may download the file until it ends, or until the file does.
    """
    who, ends = caller(), until(wanted["seconds"])
    with reading(provided(Services).db) as session:
        its = find.file(session, who, file_id)
    stamp = int(ends.timestamp())
    proof = _signing().sign(links.download(its.tenant_id, its.id), 0, stamp)
    named = {"tenant_id": its.tenant_id, "file_id": its.id}
    return {"url": address_of("files.linked", **named, until=stamp, signature=proof), "until": ends}


@blueprint.route("/files/links", methods=["POST"])
@blueprint.arguments(WantedUpload)
@blueprint.response(200, UploadLink)
@blueprint.alt_response(400, description="The name may not be.")
@needs(Scope.FILES, tests=True)
def upload_link(wanted: dict[str, Any]) -> Any:
    """Get a link for an upload

    Anybody who has it may upload the file under this name until the link ends. It is examined when it comes.
    """
    who, ends, most = caller(), until(wanted["seconds"]), provided(Services).settings.MAX_FILE_SIZE
    keep.check_ending(wanted["expires_at"])
    name, size = names.checked(wanted["name"]), min(wanted["max_size"] or most, most)
    kind, stamp = "test" if who.tests_only else "live", int(ends.timestamp())
    expires = None if wanted["expires_at"] is None else int(wanted["expires_at"].timestamp())
    path = links.upload(who.tenant_id, kind, name, replace=wanted["replace"], expires=expires)
    query: dict[str, Any] = {"name": name, "size": size, "until": stamp}
    query |= ({"replace": "true"} if wanted["replace"] else {}) | ({} if expires is None else {"expires": expires})
    proof = _signing().sign(path, size, stamp)
    url = address_of("files.put_linked", tenant_id=who.tenant_id, kind=kind, **query, signature=proof)
    return {"method": "PUT", "url": url, "headers": {}, "until": ends, "max_size": size}


@blueprint.route("/files/links/<uuid:tenant_id>/<uuid:file_id>")
@blueprint.arguments(SignedDownload, location="query")
@blueprint.response(200, _FILE, content_type=UNKNOWN_TYPE, description="The file, as a download under its name.")
@blueprint.alt_response(206, schema=_FILE, content_type=UNKNOWN_TYPE, description="The `Range` that was asked for.")
@blueprint.alt_response(302, description="The file is at `Location`, for some minutes.")
@blueprint.alt_response(304, description="It is still what `If-None-Match` says.")
@blueprint.alt_response(403, description="The link is not ours, or has ended.")
@blueprint.alt_response(404, description="The file was deleted.")
@blueprint.alt_response(416, description="The file has no such `Range`.")
@blueprint.alt_response(422, description="The virus scanner found something in the file.")
@blueprint.alt_response(503, description=_AWAY)
@signed
def linked(given: dict[str, Any], tenant_id: UUID, file_id: UUID) -> Response:
    """Download a file by a link

    The link is the permission: no API key is needed.
    """
    maker = "POST /files/{file_id}/link"
    _signing().check(links.download(tenant_id, file_id), 0, given["until"], given["signature"], maker)
    return _sent(Caller(tenant_id), file_id)


def _check_upload_link(**route: Any) -> None:
    """Check the link for an upload before its body is read."""
    _check_link(blueprint.ARGUMENTS_PARSER.parse(SignedFile(), request, location="query"), **route)


@blueprint.route("/files/links/<uuid:tenant_id>/uploads/<kind>", methods=["PUT"])
@blueprint.doc(requestBody={"required": True, "content": {UNKNOWN_TYPE: {"schema": _FILE}}})
@blueprint.arguments(SignedFile, location="query")
@blueprint.response(201, SharedFile)
@blueprint.alt_response(200, schema=SharedFile, description="It is not new: it was replaced, or had this content.")
@blueprint.alt_response(403, description="The link is not ours, or has ended, or the tenant is suspended.")
@blueprint.alt_response(409, description=_TAKEN)
@blueprint.alt_response(413, description="The file is larger than the link allows.")
@blueprint.alt_response(415, description="The body has a Content-Encoding.")
@blueprint.alt_response(422, description=_REFUSED)
@blueprint.alt_response(503, description=_AWAY)
@blueprint.alt_response(507, description=FULL)
@takes_uploads(media_type=None, admit=_check_upload_link)
@signed
def put_linked(given: dict[str, Any], tenant_id: UUID, kind: str) -> Any:
    """Upload a file to a link from `POST /files/links`

    The link is the permission: no API key is needed.
    """
    _check_link(given, tenant_id, kind)
    ends = None if given["expires"] is None else datetime.fromtimestamp(given["expires"], UTC)
    who = Caller(tenant_id, kind=KeyKind.TEST if kind == "test" else KeyKind.LIVE)
    return _kept(who, given["name"], keep.FileTerms(given["replace"], ends), given["size"])


@blueprint.after_request  # type: ignore[untyped-decorator]  # flask-smorest has no types
def _for_pages(answer: Response) -> Response:
    if request.endpoint == f"{blueprint.name}.put_linked":
        answer.headers.update(FOR_PAGES)
    return answer


def _check_link(given: dict[str, Any], tenant_id: UUID, kind: str) -> None:
    """Raise :class:`Forbidden` unless the link for an upload is ours, and :class:`TooLarge`."""
    path = links.upload(tenant_id, kind, given["name"], replace=given["replace"], expires=given["expires"])
    _signing().check(path, given["size"], given["until"], given["signature"], "POST /files/links")
    with provided(Services).db.read() as session:
        tenant = tenants.tenant(session, tenant_id)
    if tenant is None or tenant.status == SUSPENDED:
        raise Suspended("This tenant is suspended.")
    if (size := request.content_length) is not None and size > given["size"]:
        raise TooLarge(f"The body has {size} bytes; the link is for at most {given['size']}.")


def _kept(who: Caller, name: str, terms: keep.FileTerms, most: int | None = None) -> Any:
    """Store the body of this request under a name."""
    services, inspector, size = provided(Services), provided(Inspector), request.content_length
    declared = request.content_type or UNKNOWN_TYPE
    file, new = keep.keep_body(services, inspector, who, read_blocks(), name, declared, terms, size=size, most=most)
    return file, 201 if new else 200


def _sent(who: Caller, file_id: UUID) -> Response:
    """Return the content of a file, or the part of it that this request asks for."""
    services = provided(Services)
    its, blob = find.with_content(services.db, who, file_id)
    answer = sent(services, blob, its.filename, its.content_type)
    if answer.status_code == 200:
        answer.set_etag(blob.sha256)
        answer.make_conditional(request, accept_ranges=True, complete_length=blob.size)
    return answer


def _signing() -> Signing:
    services = provided(Services)
    return Signing(services.db, services.vault)
