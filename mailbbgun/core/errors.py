"""The tree of our errors.

Each has a stable ``code`` and a text that is safe to show. Each door maps codes to its own answers.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

Fields = Mapping[str, Sequence[str]]


class MailBBGunError(Exception):
    """Base of every error of ours. ``str(error)`` is safe to show to a user."""

    code = "internal_error"
    status = 500
    #: Fields of the log line about this error. None of them is a secret.
    told: Mapping[str, object] = MappingProxyType({})

    def __init__(self, message: str, *, fields: Fields | None = None, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields
        self.retry_after = retry_after


class ConfigurationError(MailBBGunError):
    """A setting, the schema or a server is not as it must be.

    The program prints this as one line and ends.
    """

    code = "configuration_error"


class InvalidInput(MailBBGunError):
    """The input is malformed or breaks a rule. ``fields`` says which fields and why."""

    code = "validation_error"
    status = 400


class MalformedBody(InvalidInput):
    """The body is not the JSON object it should be."""

    code = "malformed_json"


class MalformedForm(InvalidInput):
    """The body is not the multipart/form-data that it should be (RFC 7578)."""

    code = "malformed_form"


class Unauthorized(MailBBGunError):
    """The request needs an API key and has none, or its key is unknown, revoked or expired."""

    code = "unauthorized"
    status = 401


class Forbidden(MailBBGunError):
    """The key is valid, but may not do this."""

    code = "forbidden"
    status = 403


class CrossSite(Forbidden):
    """A browser sends a request that changes something, on behalf of a page of another site."""

    code = "cross_site"


class OnlyTestData(Forbidden):
    """The key is a test key, and the request is not about test data."""

    code = "test_key"


class HostNotAllowed(MailBBGunError):
    """The request is for a host that this service does not answer for (RFC 9110 §15.5.20)."""

    code = "host_not_allowed"
    status = 421


class Suspended(Forbidden):
    """The tenant is suspended: it may read, but change nothing."""

    code = "tenant_suspended"


class NotPermitted(InvalidInput):
    """A tenant named a host or port that we do not connect to. ``about`` says which of them."""

    def __init__(self, message: str, *, about: Literal["host", "port"]) -> None:
        super().__init__(message)
        self.about = about


class NotFound(MailBBGunError):
    """There is no such thing, or it belongs to another tenant."""

    code = "not_found"
    status = 404


class Conflict(MailBBGunError):
    """The state of the thing does not allow this."""

    code = "conflict"
    status = 409


class PreconditionFailed(MailBBGunError):
    """The thing has changed since the version that the client's If-Match names (RFC 9110 §13.1.1)."""

    code = "precondition_failed"
    status = 412


class TooLarge(MailBBGunError):
    """The input is larger than a size limit."""

    code = "too_large"
    status = 413


class UnsupportedMediaType(MailBBGunError):
    """The body is not declared as JSON, or as a form where files may be sent."""

    code = "unsupported_media_type"
    status = 415


class IdempotencyMismatch(MailBBGunError):
    """An ``Idempotency-Key`` was used again with another body."""

    code = "idempotency_mismatch"
    status = 422


class TooManyRequests(MailBBGunError):
    """A ``limit`` is used up. The client may try again in ``retry_after`` seconds."""

    status = 429

    def __init__(self, message: str, *, limit: int, retry_after: int) -> None:
        super().__init__(message, retry_after=retry_after)
        self.limit = limit


class RateLimited(TooManyRequests):
    """Requests came too fast. This one was not carried out."""

    code = "rate_limited"


class QuotaExceeded(TooManyRequests):
    """The tenant has used up its messages of today. This message was not stored."""

    code = "quota_exceeded"


class SecretUnreadable(ConfigurationError):
    """None of the keys can decrypt a secret in the database.

    The secret stays as it is. It can be read again once the key is back.
    """

    code = "secret_unreadable"
    status = 503  # the client did nothing wrong, and may try again once the sysadmin has put the key back


class FileRefused(MailBBGunError):
    """A file may not be sent: its name, its type or its content is not accepted."""

    code = "file_refused"
    status = 422


class VirusFound(FileRefused):
    """The virus scanner found something in a file."""

    code = "virus_found"


class StorageFull(MailBBGunError):
    """The tenant's files have all the bytes that they may have. This one was not stored.

    The status is that of WebDAV (RFC 4918 §11.5), which file services use for this.
    """

    code = "storage_full"
    status = 507


class TookTooLong(MailBBGunError):
    """A query takes longer than one caller may keep the database busy.

    Repeated, it would take as long again.
    """

    code = "took_too_long"
    status = 503


class UnfilteredQuery(MailBBGunError):
    """A bug of ours: a statement is not limited to rows that its caller may use.

    It was not executed.
    """


class Unavailable(MailBBGunError):
    """A server that we need does not answer. The same request may work in ``retry_after`` seconds.

    ``refused``: the server answers, but refuses what the settings say (a password, a database that
    it does not have). A program that is starting then ends instead of waiting. A running program
    goes on trying, because somebody may be repairing the server.
    """

    code = "unavailable"
    status = 503
    kind = "server"  # which server; log lines are named after it

    def __init__(self, message: str, *, retry_after: int = 5, refused: bool = False, address: str = "") -> None:
        super().__init__(message, retry_after=retry_after)
        self.refused = refused
        if address:  # only for the log and the terminal: clients must not learn where our servers are
            self.told = MappingProxyType({"address": address})


class DatabaseUnavailable(Unavailable):
    """The database cannot be reached, or the connection broke before a commit was confirmed."""

    kind = "database"


class QueueUnavailable(Unavailable):
    """The queue cannot be reached, refuses, or did not confirm in time.

    If ``address`` is given, the message says the reason, too.
    """

    kind = "queue"


class RedisUnavailable(Unavailable):
    """Redis cannot be reached, refuses, or did not answer in time."""

    kind = "redis"


class ScannerUnavailable(Unavailable):
    """The virus scanner cannot be reached, fails, or did not answer in time."""

    kind = "scanner"


class BlobStoreUnavailable(Unavailable):
    """The store of files cannot be reached, refuses us, has no room, or did not answer in time."""

    kind = "blob_store"


class BlobMissing(MailBBGunError):
    """The content of a file is not in the store, although the database knows it, or it is damaged."""

    code = "content_missing"


class QueueMisconfigured(ConfigurationError):
    """The broker's queues are missing or declared otherwise. ``initdb.py`` declares them."""


def explained(error: MailBBGunError) -> str:
    """Return the text of an error for the sysadmin.

    If a server does not answer, it includes the first line of what the server or its driver said.
    If a setting is wrong it does not: the driver may quote a password.
    """
    if isinstance(error, QueueUnavailable | BlobStoreUnavailable) and (address := error.told.get("address")):
        return f"{error} ({address})"
    first: BaseException = error
    while isinstance(first, Unavailable) and first.__cause__ and not first.refused:
        first = first.__cause__
    cause = str(first).strip().partition("\n")[0] or type(first).__name__
    return str(error) if first is error else f"{error} ({cause})"
