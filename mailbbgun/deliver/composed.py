"""The messages that are composed on their way out: the small ones after the claim, the others at sending."""

from collections.abc import Sequence
from uuid import UUID

from mailbbgun.core.errors import MailBBGunError
from mailbbgun.database.db import Database
from mailbbgun.deliver.claim import EAGER_SIZE
from mailbbgun.messages.loading import Contents


class ComposedMessages:
    """Composes messages for one worker process. Thread-safe."""

    def __init__(self, database: Database) -> None:
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

    def whole(self, message_id: UUID) -> bytes:
        """Return the bytes of a message.

        Raises :class:`DatabaseUnavailable`, and :class:`InvalidInput` if it cannot be composed.
        """
        composed = self._contents.messages([message_id])[message_id].composed()
        assert composed is not None  # retention deletes only messages that are finished
        return composed.whole
