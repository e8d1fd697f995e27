"""One small tree of errors. Each carries a stable ``code`` and a text that is safe to show; each door maps codes to its own answers."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

Fields = Mapping[str, Sequence[str]]


class MailBBGunError(Exception):
    """Base of every error of ours. ``str(error)`` is safe to show to a user."""

    code = "internal_error"
    status = 500
    told: Mapping[str, object] = MappingProxyType({})  # fields of the log line about it, none of them a secret

    def __init__(self, message: str, *, fields: Fields | None = None, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields
        self.retry_after = retry_after


class ConfigurationError(MailBBGunError):
    """A setting, a schema or a server is not as it must be; start-up stops with this one line."""

    code = "configuration_error"


class InvalidInput(MailBBGunError):
    """What came in is malformed or breaks a rule; ``fields`` says which and why."""

    code = "validation_error"
    status = 400


class MalformedBody(InvalidInput):
    """The body is not the JSON object it should be."""

    code = "malformed_json"


class Unauthorized(MailBBGunError):
    """No key was given where one is asked for, or it is none of ours, revoked or expired."""

    code = "unauthorized"
    status = 401


class Forbidden(MailBBGunError):
    """The key is known, and may not do this."""

    code = "forbidden"
    status = 403


class CrossSite(Forbidden):
    """A browser sends a request that changes something for a page of another site."""

    code = "cross_site"


class OnlyTestData(Forbidden):
    """The key is a test key, and this is not about test data."""

    code = "test_key"


class HostNotAllowed(MailBBGunError):
    """The request is for a host that this service does not answer for (RFC 9110 §15.5.20)."""

    code = "host_not_allowed"
    status = 421


class Suspended(Forbidden):
    """The tenant is suspended: it can read, and change nothing."""

    code = "tenant_suspended"


class NotPermitted(InvalidInput):
    """A host or port that we do not connect to at a stranger's bidding; ``about`` says which of the two."""

    def __init__(self, message: str, *, about: Literal["host", "port"]) -> None:
        super().__init__(message)
        self.about = about


class NotFound(MailBBGunError):
    """No such thing, or it belongs to somebody else."""

    code = "not_found"
    status = 404


class Conflict(MailBBGunError):
    """The thing is not in a state that allows this."""

    code = "conflict"
    status = 409


class TooLarge(MailBBGunError):
    """A size limit was passed."""

    code = "too_large"
    status = 413


class UnsupportedMediaType(MailBBGunError):
    """The body is not declared as JSON."""

    code = "unsupported_media_type"
    status = 415


class IdempotencyMismatch(MailBBGunError):
    """An ``Idempotency-Key`` was used again with another body."""

    code = "idempotency_mismatch"
    status = 422


class TooManyRequests(MailBBGunError):
    """There is a ``limit``, and it is used up; in ``retry_after`` seconds there is more."""

    status = 429

    def __init__(self, message: str, *, limit: int, retry_after: int) -> None:
        super().__init__(message, retry_after=retry_after)
        self.limit = limit


class RateLimited(TooManyRequests):
    """Requests came too fast. What was asked for was not done."""

    code = "rate_limited"


class QuotaExceeded(TooManyRequests):
    """A tenant's messages of today are used up. What was handed over is not stored."""

    code = "quota_exceeded"


class SecretUnreadable(ConfigurationError):
    """A secret in the database cannot be decrypted by the keys at hand. It is kept as it is, and readable again when the key is back."""

    code = "secret_unreadable"
    status = 503  # no client's fault, and over when the sysadmin has put it right


class TookTooLong(MailBBGunError):
    """What was asked for takes the database longer than one caller may keep it; asked for again it would do so again."""

    code = "took_too_long"
    status = 503


class FencedQuery(MailBBGunError):
    """A bug of ours: a statement would have read or changed rows of every tenant. It was not executed."""


class Unavailable(MailBBGunError):
    """A server this needs does not answer; the same request may work in ``retry_after`` seconds.

    ``refused``: it does answer, and refuses what the settings say (a password, a database that it does not have). A program that starts ends then
    instead of waiting; one that runs goes on trying, as the server may be about to be put right.
    """

    code = "unavailable"
    status = 503
    kind = "server"  # what is away, in names of log lines

    def __init__(self, message: str, *, retry_after: int = 5, refused: bool = False, address: str = "") -> None:
        super().__init__(message, retry_after=retry_after)
        self.refused = refused
        if address:  # for the log and the terminal; clients are not told where our servers are
            self.told = MappingProxyType({"address": address})


class DatabaseUnavailable(Unavailable):
    """The database cannot be reached, or the connection broke before a commit was confirmed."""

    kind = "database"


class QueueUnavailable(Unavailable):
    """The queue cannot be reached, refuses, or did not confirm in time. If ``address`` is given, the message says the reason, too."""

    kind = "queue"


class RedisUnavailable(Unavailable):
    """Redis cannot be reached, refuses, or did not answer in time."""

    kind = "redis"


class QueueMisconfigured(ConfigurationError):
    """The queue's topology is missing or was declared with other arguments; ``initdb.py`` declares it."""


def explained(error: MailBBGunError) -> str:
    """Return an error for the sysadmin who starts a program: of a server that does not answer, with the first line it or its driver said.

    Of a wrong setting never: there the cause may quote a password.
    """
    if isinstance(error, QueueUnavailable) and (address := error.told.get("address")):
        return f"{error} ({address})"
    first: BaseException = error
    while isinstance(first, Unavailable) and first.__cause__ and not first.refused:
        first = first.__cause__
    cause = str(first).strip().partition("\n")[0] or type(first).__name__
    return str(error) if first is error else f"{error} ({cause})"
