"""Who a client is: the password of AUTH is an API key with the scope ``smtp``."""

import asyncio
import base64
import binascii
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from mailbbgun.core.caller import Caller, Scope
from mailbbgun.core.errors import Forbidden, MailBBGunError, RateLimited, Suspended, Unauthorized
from mailbbgun.core.net import network_of
from mailbbgun.http.refusals import Refusals
from mailbbgun.limits.request_rates import Rates
from mailbbgun.smtpd.replies import refusal
from mailbbgun.tenants.authenticate import Authenticator

#: Threads that look up keys which this process has not seen lately. They wait for the database.
LOOK_UPS = 4


@dataclass(frozen=True, slots=True)
class DoorLogin:
    """A client that has shown its key. The key is checked again with each message."""

    header: str = field(repr=False)
    address: str
    caller: Caller


class Logins:
    """Recognises keys, and counts wrong ones."""

    def __init__(
        self, authenticator: Authenticator, rates: Rates, failed: Callable[[], None], refusals: Refusals
    ) -> None:
        self._authenticator, self._rates, self._failed, self._refusals = authenticator, rates, failed, refusals
        self._pool = ThreadPoolExecutor(LOOK_UPS, thread_name_prefix="login")

    def close(self) -> None:
        """Look up no more keys."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def login(self, key: str, address: str) -> DoorLogin:
        """Return the login of a client with this key.

        Raises :class:`Unauthorized`, :class:`RateLimited` for a wrong key from an address that has sent too
        many, :class:`Forbidden`, :class:`DatabaseUnavailable`.
        """
        header = f"Bearer {key}"
        try:
            return DoorLogin(header, address, await self._caller(header, address))
        except Unauthorized as error:
            self._failed()
            self._refusals.tell("login", network_of(address), {"client": address, "why": str(error), **error.told})
            standing = self._rates.address(address, failed=True)
            if standing.allowed:
                raise
            told = {"client": address, "count": standing.limit, "seconds": standing.seconds}
            self._refusals.tell("locked", network_of(address), told, most=1, event="address_locked")
            why = "Too many logins failed from your address."
            raise RateLimited(why, limit=standing.limit, retry_after=standing.seconds) from error

    def may_wait(self, login: DoorLogin) -> bool:
        """Say whether :meth:`admit` may wait for a server."""
        return self._rates.waits or not self._authenticator.at_hand(login.header)

    def admit(self, login: DoorLogin) -> Caller:
        """Return who may hand over a message now, and count it as a request of the key and its tenant.

        Raises what :meth:`login` does, and :class:`RateLimited`. A key that was revoked since is noticed here.
        """
        caller = self._known(login.header, login.address)
        standing = self._rates.taken(caller) if caller.limited else None
        if standing is not None and not standing.allowed:
            why = f"More than {standing.limit} messages a minute."
            raise RateLimited(why, limit=standing.limit, retry_after=standing.seconds)
        return caller

    async def admit_later(self, login: DoorLogin) -> Caller:
        """Do what :meth:`admit` does in another thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self.admit, login)

    async def _caller(self, header: str, address: str) -> Caller:
        if self._authenticator.at_hand(header):
            return self._known(header, address)
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._known, header, address)

    def _known(self, header: str, address: str) -> Caller:
        caller = self._authenticator.caller(header, address)
        if Scope.SMTP not in caller.scopes:
            raise Forbidden(f"This API key lacks the scope {Scope.SMTP}.")
        if caller.suspended:
            raise Suspended("This tenant is suspended.")
        return caller


def login_refusal(error: MailBBGunError) -> str:
    """Return the reply to AUTH that raised an error (RFC 4954 §6)."""
    if isinstance(error, RateLimited):
        return refusal(error).replace("450 4.7.1", "421 4.7.0", 1)
    if isinstance(error, Unauthorized | Forbidden) and not isinstance(error, Suspended):
        return refusal(error).replace("550 5.7.1", "535 5.7.8", 1)
    return refusal(error)


def decoded(text: bytes) -> bytes | None:
    """Return what Base64 stands for (RFC 4954 §4: "=" for nothing); None if it is none."""
    try:
        return b"" if text == b"=" else base64.b64decode(text, validate=True)
    except binascii.Error:
        return None


def plain_password(message: bytes) -> str | None:
    """Return the password in a message of SASL PLAIN (RFC 4616); None if it is none. Any user name will do."""
    parts = message.split(b"\0")
    return password_of(parts[2]) if len(parts) == 3 else None


def password_of(message: bytes) -> str | None:
    """Return the password in a message of LOGIN; None if it is no text."""
    try:
        return message.decode()
    except UnicodeDecodeError:
        return None
