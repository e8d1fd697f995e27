"""Files in a bucket of MinIO, Ceph, Amazon S3, or another store that speaks S3's protocol."""

import logging
import ssl
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import BinaryIO, cast
from xml.etree import ElementTree

import urllib3
from minio import Minio
from minio.commonconfig import ENABLED, CopySource, Filter
from minio.deleteobjects import DeleteObject
from minio.error import MinioException, S3Error
from minio.lifecycleconfig import AbortIncompleteMultipartUpload, LifecycleConfig, Rule

from mailbbgun.blobs.base import BLOCK, StoredObject, check_size, checked
from mailbbgun.blobs.url import Bucket
from mailbbgun.core.errors import BlobMissing, BlobStoreUnavailable, ConfigurationError

#: Seconds to connect, and to wait for the next bytes of an answer.
CONNECT_SECONDS, READ_SECONDS = 3.0, 10.0

#: How often a request is repeated: in all, and if an answer did not come or broke off.
RETRIES, READ_RETRIES = 2, 1

#: Bytes of a part of a large file, the least that S3 takes. A part is held in memory as a whole.
PART = 5 * 1024 * 1024

#: How many files one process stores at once. Each takes about 15 MB of memory.
PUTS_AT_ONCE = 3

#: Codes of S3 that say: the settings are wrong.
_REFUSED = {
    "InvalidAccessKeyId": "it does not know the access key",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "AccessDenied": "the access key may not do this",
    "NoSuchBucket": "there is no such bucket",
    "AuthorizationHeaderMalformed": "the region is wrong",
    "RequestTimeTooSkewed": "its clock and ours differ too much",
}
_MISSING = ("NoSuchKey", "NoSuchObject", "NotFound")
_OURS = ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")

log = logging.getLogger("mailbbgun.blobs")


class S3:
    """Keeps each file as an object of one bucket.

    A large file is stored in parts, one after the other. A part that a killed process leaves is
    removed by the bucket's lifecycle rule after a day.
    """

    def __init__(self, bucket: Bucket, *, read_seconds: float = READ_SECONDS) -> None:
        """Connect to nothing yet. Raises :class:`ConfigurationError` if ``ca`` cannot be read."""
        self._bucket = bucket
        self._pool = urllib3.PoolManager(
            maxsize=16,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=read_seconds),
            retries=urllib3.Retry(
                total=RETRIES, read=READ_RETRIES, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]
            ),
            ssl_context=_trusting(bucket.ca) if bucket.tls else None,
        )
        try:
            self._client = Minio(
                bucket.host,
                access_key=bucket.access_key,
                secret_key=bucket.secret_key,
                secure=bucket.tls,
                region=bucket.region,
                http_client=self._pool,
            )
        except ValueError as error:
            raise ConfigurationError(f"BLOBS_URL: {error}") from error
        if bucket.virtual_host:
            self._client.enable_virtual_style_endpoint()  # type: ignore[no-untyped-call]  # it takes nothing
        else:
            self._client.disable_virtual_style_endpoint()  # type: ignore[no-untyped-call]  # it takes nothing
        # It would log each request that it repeats. What fails in the end is an error of ours.
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        self._puts = threading.BoundedSemaphore(PUTS_AT_ONCE)

    def prepare(self) -> None:
        with self._translated():
            if self._client.bucket_exists(self._bucket.name):
                return
            try:
                self._client.make_bucket(self._bucket.name, location=self._bucket.region)
            except S3Error as error:
                if error.code not in _OURS:  # else another process has just made it
                    raise
        self._set_lifecycle()

    def check(self) -> None:
        with self._translated():
            if not self._client.bucket_exists(self._bucket.name):
                raise self._away("there is no such bucket", refused=True)

    def put(self, key: str, blocks: Iterable[bytes], size: int | None = None) -> int:
        reader = _Reader(blocks, size)
        with self._puts, self._translated(reader):
            known = -1 if size is None else size
            self._client.put_object(
                self._bucket.name,
                checked(key),
                cast(BinaryIO, reader),
                known,
                part_size=PART if size is None or size > PART else 0,
                num_parallel_uploads=1,
            )
        try:
            reader.end()
        except ValueError:  # S3 has taken what was announced
            self.delete([key])
            raise
        return reader.read_bytes

    @contextmanager
    def open(self, key: str) -> Iterator[Iterator[bytes]]:
        with self._translated():
            response = self._client.get_object(self._bucket.name, checked(key))
        try:
            yield self._blocks(response)
        finally:
            # A file that was not read to its end ends the connection: its rest would come before the next answer.
            response.close()
            response.release_conn()

    def size(self, key: str) -> int | None:
        try:
            with self._translated():
                return self._client.stat_object(self._bucket.name, checked(key)).size
        except BlobMissing:
            return None

    def copy(self, source: str, target: str) -> None:
        with self._translated():
            copied = CopySource(self._bucket.name, checked(source))
            self._client.copy_object(self._bucket.name, checked(target), copied)

    def delete(self, keys: Iterable[str]) -> None:
        with self._translated():
            doomed = [DeleteObject(checked(key)) for key in keys]
            for fault in self._client.remove_objects(self._bucket.name, doomed):
                if fault.code not in _MISSING:
                    raise self._away(f"{fault.code}: {fault.message}")

    def keys(self, prefix: str) -> Iterator[StoredObject]:
        if prefix:
            checked(prefix.removesuffix("/"))
        with self._translated():
            for found in self._client.list_objects(self._bucket.name, prefix=prefix, recursive=True):
                if found.last_modified is not None:  # None: a folder
                    yield StoredObject(found.object_name, found.size or 0, found.last_modified)

    def clean(self, before: datetime) -> None:
        """Do nothing: the bucket's lifecycle rule removes parts."""
        del before

    def presigned_get(self, key: str, seconds: int, disposition: str, content_type: str) -> str | None:
        if not self._bucket.links:
            return None
        shown: dict[str, str | list[str] | tuple[str]] = {
            "response-content-disposition": disposition,
            "response-content-type": content_type,
        }
        with self._translated():
            return self._client.presigned_get_object(
                self._bucket.name, checked(key), timedelta(seconds=seconds), response_headers=shown
            )

    def presigned_put(self, key: str, seconds: int) -> str | None:
        if not self._bucket.links:
            return None
        with self._translated():
            return self._client.presigned_put_object(self._bucket.name, checked(key), timedelta(seconds=seconds))

    def close(self) -> None:
        """Close every connection."""
        self._pool.clear()

    def _blocks(self, response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        with self._translated():
            yield from response.stream(BLOCK)

    def _set_lifecycle(self) -> None:
        """Let the bucket, which is ours, remove parts that were left. Not every store can."""
        rule = Rule(
            ENABLED,
            rule_filter=Filter(prefix=""),
            rule_id="abandoned-parts",
            abort_incomplete_multipart_upload=AbortIncompleteMultipartUpload(days_after_initiation=1),
        )
        try:
            with self._translated():
                self._client.set_bucket_lifecycle(self._bucket.name, LifecycleConfig([rule]))
        except BlobStoreUnavailable as error:
            log.warning("bucket_without_lifecycle", extra={"bucket": self._bucket.name, "error": str(error.__cause__)})

    @contextmanager
    def _translated(self, reader: "_Reader | None" = None) -> Iterator[None]:
        """Raise our own errors in place of the client's. What ``reader`` was raised is passed on."""
        try:
            yield
        except (MinioException, urllib3.exceptions.HTTPError, OSError, ElementTree.ParseError) as error:
            if reader is not None and reader.error is not None:
                raise reader.error from None  # not what followed from it
            if isinstance(error, S3Error) and error.code in _MISSING:
                raise BlobMissing(f"there is no file {error.object_name} in the store") from error
            why = _REFUSED.get(error.code or "") if isinstance(error, S3Error) else None
            # The reason is shorter, and says nothing of how often it was tried.
            raise self._away(why or str(getattr(error, "reason", error)), refused=why is not None) from error

    def _away(self, why: str, *, refused: bool = False) -> BlobStoreUnavailable:
        # Clients must not learn where our servers are, so only the log has it.
        where = f"{self._bucket.host}/{self._bucket.name}"
        return BlobStoreUnavailable("the store of files is not available", address=f"{where}: {why}", refused=refused)


class _Reader:
    """Gives blocks as a file that is read once."""

    def __init__(self, blocks: Iterable[bytes], size: int | None) -> None:
        """``size``: how many bytes were announced."""
        self._blocks, self._size = iter(blocks), size
        self._rest = b""
        self.read_bytes = 0
        #: What the blocks raised.
        self.error: BaseException | None = None

    def read(self, size: int) -> bytes:
        """Return so many bytes, or fewer at the end."""
        pieces, wanted = [], size
        while wanted:
            block = self._rest or self._next()
            if not block:
                self._check(self.read_bytes + size - wanted)
                break
            pieces.append(block[:wanted])
            self._rest = block[wanted:]
            wanted -= len(pieces[-1])
        self.read_bytes += size - wanted
        return b"".join(pieces)

    def end(self) -> None:
        """Raise ``ValueError`` if there is more than was announced."""
        if self._size is not None:
            self._check(self.read_bytes + len(self._rest or self._next()))

    def _check(self, size: int) -> None:
        try:
            check_size(size, self._size)
        except ValueError as error:
            self.error = error
            raise

    def _next(self) -> bytes:
        try:
            return next((block for block in self._blocks if block), b"")
        except BaseException as error:
            self.error = error
            raise


def _trusting(file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=file or None)
    except OSError as error:
        raise ConfigurationError(f"BLOBS_URL: the file {file!r} of its option ca cannot be used: {error}") from error
