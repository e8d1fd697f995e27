"""The verb: store the files of a form for a caller's tenant."""

import mimetypes
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from mailbbgun.attachments import repo
from mailbbgun.attachments.inspection import Inspector
from mailbbgun.attachments.schemas import AttachmentShape
from mailbbgun.attachments.store import StoredFile
from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import InvalidInput
from mailbbgun.database import idempotency
from mailbbgun.http.bad_input import name_of, shown
from mailbbgun.http.error_responses import INVALID
from mailbbgun.http.uploads.form import UploadedForm
from mailbbgun.safety.examine import SafeFile
from mailbbgun.services import Services

#: The field of a form that has a file to store.
FILE = "file"

#: Characters of a file's name, at most.
LONGEST_NAME = 255

#: The type of a file about which nothing is known (RFC 2046 §4.5.1).
UNKNOWN_TYPE = "application/octet-stream"

_EXAMPLE = "with curl write -F 'file=@invoice.pdf'"


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """A file of a form, under the name and type that it has here."""

    field: str
    filename: str
    content_type: str
    content_id: str
    size: int


class ReceivedForm:
    """The files of a form, under the names that they have here. Nothing is stored yet."""

    def __init__(self, form: UploadedForm, fields: Sequence[str]) -> None:
        """``fields``: the names that the parts of files may have.

        Raises :class:`InvalidInput` for a file that has another field or no possible name.
        """
        self._form = form
        self.files: list[ReceivedFile] = []
        wrong: dict[str, list[str]] = {}
        for file in form.files:
            name = file.filename.replace("\\", "/").rpartition("/")[2]  # folders of the client's machine say nothing
            if why := _misplaced(file.field, fields) or _fault(name):
                wrong.setdefault(file.field, []).append(why)
            kind = file.content_type or mimetypes.guess_type(name)[0] or UNKNOWN_TYPE
            self.files.append(ReceivedFile(file.field, name, kind, file.content_id, file.size))
        if wrong:
            raise InvalidInput(INVALID, fields=wrong)

    def store(self, inspector: Inspector, who: Caller, *, most: int) -> list[tuple[StoredFile, SafeFile]]:
        """Store the contents of the files, and judge them. Each is durable when this returns, for an hour.

        Raises what :meth:`Inspector.take` raises.
        """
        return [
            inspector.take(who, content, file.filename, file.content_type, most=most, size=file.size)
            for file, content in zip(self.files, self._form.contents(), strict=True)
        ]


def received_files(form: UploadedForm) -> ReceivedForm:
    """Return a form that has files and nothing else. Raises :class:`InvalidInput` for any other."""
    if form.fields:
        raise InvalidInput(INVALID, fields={name: [_no_field(name)] for name, _ in form.fields})
    if not form.files:
        raise InvalidInput(INVALID, fields={FILE: [f"`{FILE}` is required: {_EXAMPLE}."]})
    return ReceivedForm(form, [FILE])


def receive(
    services: Services, inspector: Inspector, who: Caller, form: UploadedForm, key: str | None
) -> tuple[Mapping[str, Any], bool]:
    """Store the files of a form, and give each a name.

    Returns what is answered, and whether that is the answer to an earlier request with the same
    ``key``. Raises :class:`InvalidInput`, :class:`IdempotencyMismatch`, and what
    :meth:`Inspector.take` raises; then no name is stored.
    """
    received = received_files(form)
    contents = received.store(inspector, who, most=services.settings.MAX_FILE_SIZE)
    named = [{**judged._asdict(), "sha256": content.sha256} for content, judged in contents]
    claim = None if key is None else idempotency.claim_of(who, key, {"attachments": named})
    rows = [{**its, "md5": one.md5, "size": one.size} for its, (one, _) in zip(named, contents, strict=True)]

    def add(_: UUID) -> dict[str, Any]:
        made = repo.add(session, who.tenant_id, rows, test=who.tests_only)
        return {"attachments": AttachmentShape(many=True).dump(made)}

    with services.db.write(who.tenant_id, tests_only=who.tests_only) as session:
        return idempotency.once(session, claim, services.settings.IDEMPOTENCY_SECONDS, add)


def _no_field(name: str) -> str:
    if name == FILE:
        return f"Has no file name, and so is no file: {_EXAMPLE}."
    return f"Unknown field {name_of(name)}; the files are in `{FILE}`, and there is nothing else."


def _misplaced(field: str, fields: Sequence[str]) -> str:
    """Say that a file has a field which takes no files; "" if it takes some."""
    if field in fields:
        return ""
    return f"No file can be sent as {name_of(field)}; files are sent as {' or '.join(map(name_of, fields))}."


def _fault(name: str) -> str:
    """Say what is wrong with a file's name; "" if nothing is."""
    if not name or name in (".", ".."):
        return "A file has no name; give it one, such as invoice.pdf."
    if len(name) > LONGEST_NAME:
        return f"The name {shown(name)} has more than {LONGEST_NAME} characters, the limit."
    if any(unicodedata.category(one) in ("Cc", "Cs") for one in name):
        return f"The name {shown(name)} has a control character; give the file's name alone, such as invoice.pdf."
    return ""
