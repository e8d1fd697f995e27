"""The keys that sign tracked URLs. Their secret is in the database; no rotation of ENCRYPTION_KEYS changes it."""

from functools import cached_property
from typing import NamedTuple
from uuid import UUID

from mailbbgun.composing.tracking import TrackedURL, Tracking, message_key, url_of
from mailbbgun.database.crypto import Vault, new_pepper
from mailbbgun.database.db import Database
from mailbbgun.tenants import repo

#: The secret's name in the database.
SECRET = "tracking"
#: The sentence about a message that asks for tracking where it cannot be had.
NO_PUBLIC_URL = "The setting PUBLIC_URL is empty, so a tracked link would lead nowhere: ask who runs this service."


class Tracker(NamedTuple):
    """What tracks one message: where its URLs begin, and the key that signs them, in hexadecimal digits."""

    base: str
    key: str

    def tracking(self, *, opens: bool | None, clicks: bool | None) -> Tracking:
        """Return what is tracked of the message."""
        return Tracking(self.base, bool(opens), bool(clicks))


class TrackingKeys:
    """Makes the keys of messages, and reads tokens. Thread-safe."""

    def __init__(self, database: Database, vault: Vault, public_url: str) -> None:
        """``public_url``: where recipients reach the service; empty: nowhere, and nothing is tracked."""
        self._database, self._vault = database, vault
        self._base = public_url.rstrip("/")

    @property
    def possible(self) -> bool:
        """Whether tracked links lead anywhere."""
        return bool(self._base)

    def tracker(self, message_id: UUID) -> Tracker:
        """Return what tracks a message.

        The first call reads the secret, or makes it. Raises :class:`DatabaseUnavailable`,
        :class:`SecretUnreadable`.
        """
        return Tracker(self._base, message_key(self._secret, message_id).hex())

    def read(self, token: str) -> TrackedURL | None:
        """Return what a token says; None if it is not ours. Raises what :meth:`tracker` does."""
        secret = self._secret
        return url_of(lambda message_id: message_key(secret, message_id), token)

    @cached_property
    def _secret(self) -> bytes:
        with self._database.read() as session:
            kept = repo.secret(session, SECRET)
        if kept is None:
            with self._database.write() as session:
                kept = repo.add_secret(session, SECRET, self._vault.encrypt(new_pepper()))
        return self._vault.decrypt(kept).encode()
