"""The verb: store the files of a form for a caller's tenant."""

import mimetypes
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from mailbbgun.attachments import repo, store
from mailbbgun.attachments.schemas import AttachmentShape
from mailbbgun.attachments.store import Stored
from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import InvalidInput
from mailbbgun.database import idempotency
from mailbbgun.http.bad_input import name_of, shown
from mailbbgun.http.error_responses import INVALID
from mailbbgun.http.uploads.form import UploadedForm
from mailbbgun.services import Services

#: The field of a form that has a file to store.
FILE = "file"

#: Characters of a file's name, at most.
LONGEST_NAME = 255

#: The type of a file about which nothing is known (RFC 2046 §4.5.1).
UNKNOWN_TYPE = "application/octet-stream"

_EXAMPLE = "with curl write -F 'file=@invoice.pdf'"
_FOLDERS = re.compile(r".*[/\\]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """A file of a form, under the name and type that it has here."""

    field: str
    filename: str
    content_type: str
    content_id: str
    size: int


def checked(form: UploadedForm, fields: Sequence[str]) -> list[ReceivedFile]:
    """Return the files of a form, in their order. ``fields``: the names that their parts may have.

    Stores nothing. Raises :class:`InvalidInput` for a file that has another field or no possible name.
    """
    wrong: dict[str, list[str]] = {}
    files = []
    for file in form.files:
        if file.field not in fields:
            names = " and ".join(f"`{one}`" for one in fields)
            wrong.setdefault(file.field, []).append(f"No file can be sent as this; the fields for files are {names}.")
            continue
        name = _FOLDERS.sub("", file.filename)  # a path on the client's machine says nothing here
        if why := _fault(name):
            wrong.setdefault(file.field, []).append(why)
        content_type = file.content_type or mimetypes.guess_type(name)[0] or UNKNOWN_TYPE
        files.append(ReceivedFile(file.field, name, content_type, file.content_id, file.size))
    if wrong:
        raise InvalidInput(INVALID, fields=wrong)
    return files


def stored(services: Services, who: Caller, form: UploadedForm, files: Sequence[ReceivedFile]) -> list[Stored]:
    """Store the contents of a form's files. Each is durable when this returns, and kept for an hour.

    Raises what :func:`store.take` raises.
    """
    settings = services.settings
    return [
        store.take(
            services.db,
            services.blobs,
            who.tenant_id,
            content,
            most=settings.MAX_FILE_SIZE,
            size=file.size,
            name=file.filename,
        )
        for file, content in zip(files, form.contents(), strict=True)
    ]


def receive(services: Services, who: Caller, form: UploadedForm, key: str | None) -> tuple[Mapping[str, Any], bool]:
    """Store the files of a form, and give each a name.

    Returns what is answered, and whether that is the answer to an earlier request with the same
    ``key``. Raises :class:`InvalidInput`, :class:`IdempotencyMismatch`, and what
    :func:`store.take` raises; then no name is stored.
    """
    if form.fields:
        raise InvalidInput(INVALID, fields={name: [_no_field(name)] for name, _ in form.fields})
    if not form.files:
        raise InvalidInput(INVALID, fields={FILE: [f"`{FILE}` is required: {_EXAMPLE}."]})
    files = checked(form, [FILE])
    contents = stored(services, who, form, files)
    named = [
        {"filename": file.filename, "content_type": file.content_type, "sha256": content.sha256}
        for file, content in zip(files, contents, strict=True)
    ]
    claim = None if key is None else idempotency.claim_of(who, key, {"attachments": named})
    rows = [{**its, "md5": one.md5, "size": one.size} for its, one in zip(named, contents, strict=True)]

    def add(_: UUID) -> dict[str, Any]:
        made = repo.add(session, who.tenant_id, rows, test=who.tests_only)
        return {"attachments": AttachmentShape(many=True).dump(made)}

    with services.db.write(who.tenant_id, tests_only=who.tests_only) as session:
        return idempotency.once(session, claim, services.settings.IDEMPOTENCY_SECONDS, add)


def _no_field(name: str) -> str:
    if name == FILE:
        return f"Has no file name, and so is no file: {_EXAMPLE}."
    return f"Unknown field {name_of(name)}; the files are in `{FILE}`, and there is nothing else."


def _fault(name: str) -> str:
    """Say what is wrong with a file's name; "" if nothing is."""
    if not name or name in (".", ".."):
        return "A file has no name; give it one, such as invoice.pdf."
    if len(name) > LONGEST_NAME:
        return f"The name {shown(name)} has more than {LONGEST_NAME} characters, the limit."
    if any(unicodedata.category(one) in ("Cc", "Cs") for one in name):
        return f"The name {shown(name)} has a control character; give the file's name alone, such as invoice.pdf."
    return ""
