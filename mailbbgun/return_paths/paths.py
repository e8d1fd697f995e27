"""Makes and reads return paths. Their keys are secrets in the database: a new one for each period of 32 days.

No rotation of ENCRYPTION_KEYS changes the keys, so mail that is on its way keeps its return path.
"""

import re
import time
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from mailbbgun.database.crypto import Vault, new_pepper
from mailbbgun.database.db import Database
from mailbbgun.return_paths.tokens import DAYS_PER_KEY, LENGTH, SignedPath, path_of, token_of
from mailbbgun.settings.settings import Settings
from mailbbgun.tenants import repo

#: The local part of a return path before its token.
PREFIX = "b+"
#: The name of a period's secret in the database, before the period's number.
_SECRET = "return_path."
_DAY_SECONDS = 86_400


class ReportMailbox(StrEnum):
    """The local parts at RETURN_PATH_DOMAIN that take reports without a token."""

    #: Where mailbox providers send complaints of their feedback loops.
    COMPLAINTS = "fbl"
    #: An envelope sender for accounts whose recipients are to share transactions.
    BOUNCES = "bounces"


def today() -> int:
    """Return the days since 1970, by this machine's clock."""
    return int(time.time()) // _DAY_SECONDS


class _SigningKey(NamedTuple):
    day: int
    key: bytes


class ReturnPaths:
    """The return paths of this installation. Thread-safe."""

    def __init__(self, database: Database, vault: Vault, settings: Settings, today: Callable[[], int] = today) -> None:
        self.domain = settings.RETURN_PATH_DOMAIN.lower()
        self._database, self._vault, self._today = database, vault, today
        self._days = settings.RETURN_PATH_DAYS
        self._keys: dict[int, bytes] = {}  # by period
        self._signing: _SigningKey | None = None
        local = rf"{re.escape(PREFIX)}([a-z2-7]{{{LENGTH}}})"
        self._anywhere = re.compile(rf"(?<![a-z0-9]){local}@{re.escape(self.domain)}(?![a-z0-9.-])".encode(), re.I)

    @property
    def used(self) -> bool:
        """Whether deliveries have return paths."""
        return bool(self.domain)

    def load(self) -> None:
        """Read the key that signs today, or make it. :meth:`address` then asks no database.

        Raises :class:`DatabaseUnavailable`, :class:`SecretUnreadable`.
        """
        day = self._today()
        if self.used and (self._signing is None or self._signing.day != day):
            self._signing = _SigningKey(day, self._key(day // DAYS_PER_KEY) or self._new_key(day // DAYS_PER_KEY))

    def address(self, delivery_id: UUID) -> str:
        """Return the envelope sender of a delivery. The caller has called :meth:`load`."""
        assert self._signing is not None
        token = token_of(self._signing.key, SignedPath(self._signing.day, delivery_id))
        return f"{PREFIX}{token}@{self.domain}"

    def is_ours(self, address: str) -> bool:
        """Return whether an address is at RETURN_PATH_DOMAIN."""
        return self.used and address.rpartition("@")[2].lower() == self.domain

    def mailbox(self, address: str) -> ReportMailbox | None:
        """Return which mailbox for reports without a token an address is; None: it is none."""
        local = address.rpartition("@")[0].lower()
        return ReportMailbox(local) if self.is_ours(address) and local in set(ReportMailbox) else None

    def delivery_of(self, address: str) -> UUID | None:
        """Return the delivery that a return path is of; None if it is not ours, forged, or too old.

        Raises what :meth:`load` does.
        """
        local = address.rpartition("@")[0]
        if not self.is_ours(address) or local[: len(PREFIX)].lower() != PREFIX:
            return None
        path = path_of(self._key_for, local[len(PREFIX) :])
        return path.delivery_id if path else None

    def mentioned(self, report: bytes) -> UUID | None:
        """Return the delivery whose return path stands in a report, as in the header of the mail that it is about.

        Looks at the first few return paths only. Raises what :meth:`load` does.
        """
        if not self.used:
            return None
        for _, found in zip(range(_MOST_MENTIONED), self._anywhere.finditer(report), strict=False):
            if path := path_of(self._key_for, found[1].decode()):
                return path.delivery_id
        return None

    def _key_for(self, path: SignedPath) -> bytes | None:
        """Return the key of a path that is new enough; None if it is not, or there was never such a key."""
        day = self._today()
        # Another machine's clock may be ahead of ours at midnight.
        return self._key(path.period) if day - self._days <= path.day <= day + 1 else None

    def _key(self, period: int) -> bytes | None:
        if period not in self._keys:
            with self._database.read() as session:
                kept = repo.secret(session, f"{_SECRET}{period}")
            if kept is None:
                return None
            self._keys[period] = self._vault.decrypt(kept).encode()
        return self._keys[period]

    def _new_key(self, period: int) -> bytes:
        oldest = (self._today() - self._days) // DAYS_PER_KEY
        with self._database.write() as session:
            kept = repo.add_secret(session, f"{_SECRET}{period}", self._vault.encrypt(new_pepper()))
            repo.forget_secrets(session, [f"{_SECRET}{one}" for one in range(oldest - _FORGOTTEN, oldest)])
        self._keys = {one: key for one, key in self._keys.items() if one >= oldest}
        self._keys[period] = self._vault.decrypt(kept).encode()
        return self._keys[period]


#: Return paths in a report that are looked at, at most: whoever writes a report chooses how many it has.
_MOST_MENTIONED = 5
#: Periods before the oldest that counts whose keys are deleted with each new key: four years of them.
_FORGOTTEN = 48
