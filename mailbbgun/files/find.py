"""The verb: find a shared file, and its content."""

from uuid import UUID

from sqlalchemy.orm import Session

from mailbbgun.attachments import repo as contents
from mailbbgun.attachments.find import refuse_infected
from mailbbgun.attachments.models import Blob
from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import NotFound
from mailbbgun.database.db import Database
from mailbbgun.files import repo
from mailbbgun.files.models import NamedFile


def file(session: Session, who: Caller, file_id: UUID) -> NamedFile:
    """Return a file of the caller's tenant; for a test key, one of test keys. Raises :class:`NotFound`."""
    found = repo.file(session, who.tenant_id, file_id, tests_only=who.tests_only)
    if found is None:
        raise missing()
    return found


def with_content(db: Database, who: Caller, file_id: UUID) -> tuple[NamedFile, Blob]:
    """Return a file of the caller's tenant with its content.

    Raises :class:`NotFound`, and :class:`VirusFound` for a content that may not be given out.
    """
    with db.read(who.tenant_id, tests_only=who.tests_only) as session:
        its = file(session, who, file_id)
    return its, content_of(db, its)


def content_of(db: Database, its: NamedFile) -> Blob:
    """Return the content of a file, which was just read. Raises like :func:`with_content`."""
    with db.read(its.tenant_id) as session:  # not only test data: test and live data of a tenant share blobs
        blob = contents.blob(session, its.tenant_id, its.sha256)
    if blob is None:  # the file was deleted meanwhile, or has another content
        raise missing()
    refuse_infected(blob, its.filename)
    return blob


def missing() -> NotFound:
    """Return the error for a file that does not exist or belongs to another tenant."""
    return NotFound("There is no such file.")
