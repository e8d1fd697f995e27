"""The verb: store uploads as shared files."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from mailbbgun.attachments import repo as contents
from mailbbgun.attachments.inspection import Inspector
from mailbbgun.attachments.receive import ReceivedForm
from mailbbgun.attachments.store import StoredFile
from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import Conflict, InvalidInput
from mailbbgun.database.db import Database
from mailbbgun.files import names, repo
from mailbbgun.files.models import NamedFile
from mailbbgun.safety.examine import SafeFile
from mailbbgun.safety.names import safe_name
from mailbbgun.services import Services


@dataclass(frozen=True, slots=True)
class FileTerms:
    """How uploads become files. ``replace``: a file of the same name gets the new content."""

    replace: bool = False
    expires_at: datetime | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _NewFile:
    name: str
    content: StoredFile
    content_type: str


def keep_form(
    services: Services, inspector: Inspector, who: Caller, form: ReceivedForm, folder: str, terms: FileTerms
) -> tuple[list[NamedFile], bool]:
    """Store the files of a form in a folder; all of them or, on any error, none.

    Returns the files in their order, and whether any is new. Raises :class:`InvalidInput`, :class:`Conflict`
    if there is a file with another content of that name, and what :meth:`Inspector.take` raises.
    """
    check_ending(terms.expires_at)
    for file in form.files:  # before anything is stored
        names.in_folder(folder, safe_name(file.filename))
    stored = form.store(inspector, who, most=services.settings.MAX_FILE_SIZE)
    return _named(services.db, who, [_in(folder, *one) for one in stored], terms)


def keep_body(
    services: Services,
    inspector: Inspector,
    who: Caller,
    blocks: Iterable[bytes],
    name: str,
    declared: str,
    terms: FileTerms,
    *,
    size: int | None,
    most: int | None = None,
) -> tuple[NamedFile, bool]:
    """Store a body under a name, and return the file and whether it is new. Raises like :func:`keep_form`.

    ``declared``: its media type. ``size``: its bytes, if that is known. ``most``: the bytes that it may have
    if that is less than any file may.
    """
    check_ending(terms.expires_at)
    checked = names.checked(name)
    limit = services.settings.MAX_FILE_SIZE if most is None else min(most, services.settings.MAX_FILE_SIZE)
    content, judged = inspector.take(who, blocks, checked, declared, most=limit, size=size)
    made, new = _named(services.db, who, [_NewFile(checked, content, judged.content_type)], terms)
    return made[0], new


def check_ending(expires_at: datetime | None) -> None:
    """Raise :class:`InvalidInput` for an end that has passed."""
    if expires_at is not None and expires_at <= datetime.now(UTC):
        why = f"{expires_at.isoformat()} has passed; give a time that is to come, or null for none."
        raise InvalidInput("Some fields are not valid.", fields={"expires_at": [why]})


def release(db: Database, who: Caller, sha256s: Iterable[str]) -> None:
    """Let contents be deleted soon unless something else needs them. Call it after the commit."""
    with db.write(who.tenant_id) as session:  # not only test data: test and live data of a tenant share blobs
        for sha256 in sha256s:
            contents.look_soon(session, who.tenant_id, sha256)


def taken(name: str) -> Conflict:
    """Return the error for a name that another file has."""
    return Conflict(f"There is another file called {name!r}; choose another name, or say replace=true.")


def _in(folder: str, content: StoredFile, judged: SafeFile) -> _NewFile:
    return _NewFile(names.in_folder(folder, judged.filename), content, judged.content_type)


def _named(db: Database, who: Caller, files: Sequence[_NewFile], terms: FileTerms) -> tuple[list[NamedFile], bool]:
    """Give contents their names, all in one transaction."""
    replaced: set[str] = set()
    made, new = [], False
    with db.write(who.tenant_id, tests_only=who.tests_only) as session:
        for one in files:
            values = _values(one, terms)
            if repo.add(session, who.tenant_id, values, test=who.tests_only):
                new = True
            elif old := _changed(session, who, values, terms):
                replaced.add(old)
            found = repo.called(session, who.tenant_id, one.name, test=who.tests_only)
            if found is None:
                raise Conflict(f"The file {one.name!r} has just been deleted; upload it again.")
            made.append(found)
    release(db, who, replaced - {one.sha256 for one in made})
    return made, new


def _values(one: _NewFile, terms: FileTerms) -> dict[str, Any]:
    return {
        "name": one.name,
        "sha256": one.content.sha256,
        "md5": one.content.md5,
        "size": one.content.size,
        "content_type": one.content_type,
        "meta": terms.metadata,
        "expires_at": terms.expires_at,
    }


def _changed(session: Session, who: Caller, values: dict[str, Any], terms: FileTerms) -> str | None:
    """Give the file of a name its new content, if it may have it. Return the digest of the old one.

    A file that has this content already stays as it is, so that an upload may be repeated.
    """
    known = repo.called(session, who.tenant_id, values["name"], test=who.tests_only)
    if known is None or (known.sha256 == values["sha256"] and not terms.replace):
        return None
    if not terms.replace:
        raise taken(values["name"])
    repo.change(session, known, values)
    return known.sha256
