"""The verbs: rename a shared file, change what is known of it, and delete it."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from mailbbgun.attachments.find import FoundFile
from mailbbgun.attachments.inspection import Inspector
from mailbbgun.core.caller import Caller
from mailbbgun.database.db import Database
from mailbbgun.files import find, keep, names, repo
from mailbbgun.files.models import NamedFile
from mailbbgun.safety.names import extension


def change(db: Database, inspector: Inspector, who: Caller, file_id: UUID, given: Mapping[str, Any]) -> NamedFile:
    """Change a file: its ``name``, ``metadata`` and ``expires_at``, those that are given.

    With another extension it is examined again. Raises :class:`NotFound`, :class:`InvalidInput`,
    :class:`Conflict` if another file has the name, and what :meth:`Inspector.named` raises.
    """
    its, blob = find.with_content(db, who, file_id)
    keep.check_ending(given.get("expires_at"))
    values = {("meta" if field == "metadata" else field): value for field, value in given.items()}
    if "name" in values:
        values["name"] = names.checked(values["name"])
        if extension(values["name"]) != extension(its.name):
            # Its type is found out anew: that of the old extension says nothing now.
            file = FoundFile(blob.sha256, blob.md5, blob.size, blob.object_id, values["name"], None, blob.scan)
            values["content_type"] = inspector.named(who, [file])[0].content_type
    try:
        with db.write(who.tenant_id, tests_only=who.tests_only) as session:
            if not repo.change(session, its, values):
                raise find.missing()
    except IntegrityError as error:
        raise keep.taken(values["name"]) from error
    with db.read(who.tenant_id, tests_only=who.tests_only) as session:
        return find.file(session, who, file_id)


def remove(db: Database, who: Caller, file_id: UUID) -> None:
    """Delete a file. Raises :class:`NotFound`."""
    with db.write(who.tenant_id, tests_only=who.tests_only) as session:
        its = find.file(session, who, file_id)
        if not repo.remove(session, its):
            raise find.missing()
    keep.release(db, who, [its.sha256])
