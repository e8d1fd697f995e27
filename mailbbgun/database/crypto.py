"""Encrypts and hashes secrets that are stored in the database.

A secret that is used again is encrypted (Fernet). A secret that is only compared is hashed. The
keys are those of ``ENCRYPTION_KEYS``; without any, the one in the file that ``initdb.py`` makes in
``VAR``. The first key encrypts, all keys decrypt.
"""

import base64
import contextlib
import hashlib
import hmac
import os
from functools import cached_property
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from mailbbgun.core.errors import ConfigurationError, SecretUnreadable
from mailbbgun.settings.paths import why_closed
from mailbbgun.settings.settings import Settings


def new_key() -> str:
    """Return a new key for ``ENCRYPTION_KEYS``: 32 random bytes in URL-safe base64."""
    return Fernet.generate_key().decode()


class Vault:
    """Encrypts and decrypts with the keys of the settings.

    Thread-safe. Reads the key's file when first used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def encrypt(self, secret: str) -> str:
        """Return a token that only a holder of the keys can decrypt.

        Raises :class:`ConfigurationError` if there is no key.
        """
        return self._fernets[0].encrypt(secret.encode()).decode()

    def decrypt(self, token: str) -> str:
        """Return the secret of a token.

        Raises :class:`SecretUnreadable` if none of the keys made the token.
        """
        try:
            return MultiFernet(self._fernets).decrypt(token.encode()).decode()
        except InvalidToken as error:
            told = "a secret in the database was encrypted by a key that ENCRYPTION_KEYS does not have"
            raise SecretUnreadable(told, retry_after=60) from error

    def rotate(self, token: str) -> str:
        """Encrypt a token's secret with the first key. Raises :class:`SecretUnreadable`."""
        return self.encrypt(self.decrypt(token))

    def key_of(self, token: str) -> int | None:
        """Return the number of the key that made a token, 0 for the first key; None if none did."""
        for place, fernet in enumerate(self._fernets):
            with contextlib.suppress(InvalidToken):
                fernet.decrypt(token.encode())
                return place
        return None

    @property
    def size(self) -> int:
        """The number of keys. Raises :class:`ConfigurationError`."""
        return len(self._fernets)

    def prepare(self) -> None:
        """Make the file with a key, if it is missing and the settings have no key.

        Raises :class:`ConfigurationError` if the file cannot be written.
        """
        path = key_file(self._settings)
        if self._settings.ENCRYPTION_KEYS:
            return
        if closed := why_closed(path):
            raise ConfigurationError(f"VAR: the key file {path} cannot be made: {closed}")
        if path.exists():
            return
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            with open(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
                file.write(new_key() + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.link(fresh, path)  # unlike a rename it does not replace a key that another process made meanwhile
            folder = os.open(path.parent, os.O_RDONLY)
            os.fsync(folder)  # the key must survive a power cut before it encrypts anything
            os.close(folder)
        except FileExistsError:
            pass  # another process has just made the key
        except OSError as error:
            raise ConfigurationError(f"the key file {path} cannot be written: {error.strerror}") from error
        finally:
            fresh.unlink(missing_ok=True)

    @cached_property
    def _keys(self) -> list[bytes]:
        if self._settings.ENCRYPTION_KEYS:
            return [key.encode() for key in self._settings.ENCRYPTION_KEYS]
        path = key_file(self._settings)
        try:
            return path.read_bytes().split()
        except PermissionError as error:
            why = f"ENCRYPTION_KEYS: is not set, and {path} cannot be read ({error.strerror})"
            raise ConfigurationError(
                f"{why}: the user who runs this must own {path.parent} and all that is in it"
            ) from error
        except OSError as error:
            why = f"ENCRYPTION_KEYS: is not set, and {path} cannot be read ({error.strerror})"
            raise ConfigurationError(
                f"{why}: put the file back; on a new installation python initdb.py makes one"
            ) from error

    @cached_property
    def _fernets(self) -> list[Fernet]:
        try:
            fernets = [Fernet(key) for key in self._keys]
        except ValueError as error:
            raise ConfigurationError(
                "ENCRYPTION_KEYS: each must be 32 bytes in URL-safe base64, as bin/generate-keys makes them"
            ) from error
        if not fernets:
            raise ConfigurationError(
                f"ENCRYPTION_KEYS: is not set, and {key_file(self._settings)} is empty: put the key back"
            )
        return fernets


def key_file(settings: Settings) -> Path:
    """Return the path of the key's file, which is used if the settings have no key."""
    return settings.var / "encryption.key"


def new_pepper() -> str:
    """Return a new key for :func:`keyed_hash`."""
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


def keyed_hash(pepper: str, secret: str) -> str:
    """Return the HMAC-SHA256 (RFC 2104) of a secret, in hex.

    Without the pepper, a reader of the database cannot even test guesses of the secret.
    """
    return hmac.new(pepper.encode(), secret.encode(), hashlib.sha256).hexdigest()


def same(one: str, other: str) -> bool:
    """Return whether two hashes are equal. The time that takes does not show where they differ."""
    return hmac.compare_digest(one, other)
