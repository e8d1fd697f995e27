"""Tells of files that were refused: uploads, and files of messages that were not accepted for them."""

from mailbbgun.attachments.inspection import RefusedFile
from mailbbgun.core.caller import Caller
from mailbbgun.database.db import Database
from mailbbgun.events import log
from mailbbgun.events.kinds import Kind


class RefusedFiles:
    """Writes an event of the tenant for each file that was refused. Thread-safe."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def tell(self, who: Caller, file: RefusedFile) -> None:
        """Write the event, in a transaction of its own. Raises :class:`DatabaseUnavailable`: nobody was told."""
        data = {**file._asdict(), "key_id": who.key_id and str(who.key_id), "test": who.tests_only or None}
        events = [log.event(who.tenant_id, None, None, Kind.FILE_REFUSED, data)]
        with self._db.write(who.tenant_id) as session:
            log.append(session, events)
            log.log_after_commit(session, events, [who.key_id])
