"""Deletes files of the store that no row knows, a thousand looked at in a step.

A process that is killed between storing a file and its row, or between deleting a row and its file, leaves such
a file. No message needs it: a message refers to rows. ``bin/mailbbgun blobs check`` finds them at once.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from uuid import UUID

from mailbbgun.attachments import repo
from mailbbgun.attachments.models import key_of
from mailbbgun.attachments.signing import Signing
from mailbbgun.blobs.base import StoredObject
from mailbbgun.services import Services

#: Files that one step looks at. Nobody waits for more than the query for so many rows.
STEP = 1000

#: Steps without work after all files were looked at.
RESTS = 360

#: Seconds that a file may be without a row: its upload may be about to write it.
YOUNG = 86_400

#: The folder of the store in which each installation that uses it has a mark.
MARKS = "installations"

log = logging.getLogger("mailbbgun.sweep")


class Orphans:
    """Goes through the store in small steps, again and again. For one thread.

    It deletes nothing from a store that a copy of this database may use too, such as that of a test installation: the
    copy's mark would be ours, and it does not know the files that came after it was made.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._listed: Iterator[StoredObject] | None = None
        self._rests = 0
        settings = services.settings
        self._ours_alone = settings.DELETE_ORPHANS or settings.BLOBS_URL.startswith(f"file://{settings.var}/")

    def step(self) -> int:
        """Look at the next files, and return how many were deleted.

        Raises :class:`BlobStoreUnavailable`, :class:`DatabaseUnavailable`; then the next step begins anew.
        """
        if not self._ours_alone:
            return 0
        if self._rests:
            self._rests -= 1
            return 0
        listed, self._listed = self._listed or self._begin(), None
        files = list(islice(listed, STEP))
        gone = self._without_row(files)
        self._services.blobs.delete(gone)
        if gone:
            log.info("orphans_deleted", extra={"count": len(gone)})
        if len(files) == STEP:
            self._listed = listed
        else:
            self._rests = RESTS
        return len(gone)

    def _begin(self) -> Iterator[StoredObject]:
        """Return all files; none if another installation uses the store too, since its files have rows elsewhere."""
        services = self._services
        # What this signs is the same in all processes of an installation, and in no other one.
        name = hashlib.sha256(Signing(services.db, services.vault).sign(MARKS, 0, 0).encode()).hexdigest()
        ours = f"{MARKS}/{name}"
        # First its own mark, then the look at others: of two that begin at once, one at least sees the other.
        if services.blobs.size(ours) is None:
            services.blobs.put(ours, [b"An installation of Mail BB Gun keeps its files here.\n"])
        if others := {found.key for found in services.blobs.keys(f"{MARKS}/")} - {ours}:
            log.warning("orphans_kept", extra={"why": f"{len(others)} other installations use this store"})
            return iter(())
        return services.blobs.keys("")

    def _without_row(self, files: Sequence[StoredObject]) -> list[str]:
        before = datetime.now(UTC) - timedelta(seconds=YOUNG)
        old = {ours: one.key for one in files if one.modified < before and (ours := _object_id(one.key))}
        if not old:
            return []
        with self._services.db.read() as session:
            known = repo.known_objects(session, old.keys())
        return [key for object_id, key in old.items() if object_id not in known]


def _object_id(key: str) -> UUID | None:
    """Return the id in the key of a blob's file; None for any other file."""
    tenant, _, rest = key.partition("/")
    try:
        tenant_id, object_id = UUID(hex=tenant), UUID(hex=rest.rpartition("/")[2])
    except ValueError:
        return None
    return object_id if key_of(tenant_id, object_id) == key else None
