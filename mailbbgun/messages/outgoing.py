"""The messages that are composed on their way out: the small ones after the claim, the others at sending.

Large plain messages are loaded at sending as well. Messages with files, and those of more than
``LARGE`` bytes, are written to a file before they are sent.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from mailbbgun.attachments.inspection import Inspector
from mailbbgun.blobs.base import BlobStore
from mailbbgun.composing.compose import Composed
from mailbbgun.composing.contents import File
from mailbbgun.composing.streaming import octets
from mailbbgun.core.errors import (
    BlobMissing,
    BlobStoreUnavailable,
    FileRefused,
    InvalidInput,
    MailBBGunError,
    ScannerUnavailable,
    TooLarge,
)
from mailbbgun.database.db import Database
from mailbbgun.messages.loading import Contents
from mailbbgun.smtp.content import EnvelopeError
from mailbbgun.smtp.outcome import Bounced, Deferred, Phase
from mailbbgun.smtp.reply import Reply
from mailbbgun.smtp.spooled import Spooled, SpoolFailed, spool

#: Bytes. A larger message is read from the database only when it is about to be sent.
EAGER_SIZE = 65_536

#: Bytes. A larger message is written to a file before it is sent.
LARGE = 1_000_000


#: Seconds until a message is due again that waits for the virus scanner, or for the store of its files.
WAIT_SECONDS = 5.0


class NotComposed(Exception):
    """A message cannot be composed now. ``outcome`` is the outcome to record for its recipients.

    ``damaged``: a file of it is not what was stored, and may never be again. ``refused``: a file of it
    may not be sent. ``waits``: for so many seconds it waits for the virus scanner or the blob store, which does
    not count as a try; 0: it does.
    """

    def __init__(self, why: str, *, damaged: bool = False, refused: bool = False, waits: float = 0.0) -> None:
        super().__init__(why)
        self.damaged, self.waits = damaged, waits
        self.outcome: Deferred | Bounced = Deferred(Reply(0, "4.3.0", why), Phase.MAIL)
        if refused:
            self.outcome = Bounced(Reply(0, "5.7.0", why), Phase.MAIL)


class Ready(NamedTuple):
    """A message that is about to be sent."""

    tenant_id: UUID
    composed: Composed

    @property
    def whole(self) -> bytes | None:
        """Its bytes; None if it is large or has files, and must be :meth:`ComposedMessages.spooled`."""
        composed = self.composed
        return None if composed.has_files or composed.size > LARGE else composed.whole


class ComposedMessages:
    """Composes messages for one worker process. Thread-safe."""

    def __init__(self, database: Database, blobs: BlobStore, inspector: Inspector, folder: Path) -> None:
        """``folder``: where large messages are written while they are sent."""
        self._database, self._blobs, self._inspector, self._folder = database, blobs, inspector, folder
        self._contents = Contents(database)

    def small(self, message_ids: Sequence[UUID]) -> dict[UUID, bytes]:
        """Return the bytes of those messages that are small and have no files.

        One that cannot be composed is left out; sending it tells why. Raises
        :class:`DatabaseUnavailable`.
        """
        found: dict[UUID, bytes] = {}
        for identifier, stored in self._contents.messages(message_ids, EAGER_SIZE).items():
            if stored.content is None or stored.content.files:
                continue
            try:
                composed = stored.composed()
            except MailBBGunError:
                continue
            if composed is not None:
                found[identifier] = composed.whole
        return found

    def ready(self, message_id: UUID) -> Ready:
        """Return a message that is about to be sent; its files are read only by :meth:`spooled`.

        Raises :class:`DatabaseUnavailable`, and :class:`NotComposed`.
        """
        stored = self._contents.messages([message_id])[message_id]
        try:
            composed = stored.composed()
        except (InvalidInput, TooLarge) as error:
            raise NotComposed(f"the message cannot be composed: {error}") from error
        if composed is None:  # retention deletes only bodies of messages that have ended; this one began again
            raise NotComposed("the message has no body any more: RETENTION_DAYS had passed")
        return Ready(stored.tenant_id, composed)

    def spooled(self, ready: Ready) -> Spooled:
        """Write a message to a file, which the caller must close.

        Its files are scanned if they were not, and verified before this returns, so nothing is sent of a
        damaged one. Raises :class:`DatabaseUnavailable`, and :class:`NotComposed`.
        """
        try:
            names = {piece.sha256: piece.filename for piece in ready.composed.pieces if isinstance(piece, File)}
            self._inspector.ready(ready.tenant_id, names)
            return spool(octets(self._database, self._blobs, ready.tenant_id, ready.composed), self._folder)
        except BlobMissing as error:
            raise NotComposed(f"an attachment cannot be sent: {error}", damaged=True) from error
        except FileRefused as error:
            raise NotComposed(str(error), refused=True) from error
        except ScannerUnavailable as error:
            raise NotComposed(str(error), waits=WAIT_SECONDS) from error
        except BlobStoreUnavailable as error:
            raise NotComposed(f"the attachments cannot be read: {error}", waits=WAIT_SECONDS) from error
        except (EnvelopeError, SpoolFailed) as error:
            raise NotComposed(str(error)) from error
