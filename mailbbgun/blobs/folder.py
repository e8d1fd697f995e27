"""Files in a folder of this machine, or of a network drive that keeps its promises about ``fsync``."""

import contextlib
import errno
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from mailbbgun.blobs.base import BLOCK, StoredObject, check_size, checked
from mailbbgun.core.errors import BlobMissing, BlobStoreUnavailable

#: The folder of files that are being written.
PARTS = "parts"

#: Bytes that :meth:`Folder.check` writes, to see whether there is room.
PROBE = b"\0" * 4096

# What a network drive says that cannot give a file two names.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)

_PART = re.compile(r"[0-9a-f]{32}")


class Folder:
    """Keeps each file under ``root``, at the path that is its key.

    A file is first written to the folder ``parts``, and gets its name when it is on the disk. So a
    process that is killed leaves no half file under a key.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._parts = root / PARTS

    def prepare(self) -> None:
        with _translated(self._root):
            self._make(self._parts)

    def check(self) -> None:
        with _translated(self._root):
            probe = os.open(self._parts, os.O_TMPFILE | os.O_WRONLY, 0o600)  # it has no name, and vanishes when closed
            try:
                _write(probe, PROBE)
            finally:
                os.close(probe)

    def put(self, key: str, blocks: Iterable[bytes], size: int | None = None) -> int:
        target, part = self._path(key), self._parts / uuid4().hex
        written = 0
        with _translated(self._root):
            file = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            try:
                for block in blocks:
                    with _translated(self._root):  # not around the loop: what the blocks raise is not ours
                        _write(file, block)
                    written += len(block)
                check_size(written, size)
                with _translated(self._root):
                    os.fsync(file)
            finally:
                os.close(file)
            self._name(part, target)
        except BaseException:
            _forget(part)
            raise
        return written

    @contextmanager
    def open(self, key: str) -> Iterator[Iterator[bytes]]:
        with self._found(key):
            file = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield self._blocks(file)
        finally:
            os.close(file)

    def size(self, key: str) -> int | None:
        try:
            with self._found(key):
                return self._path(key).stat().st_size
        except BlobMissing:
            return None

    def copy(self, source: str, target: str) -> None:
        part = self._parts / uuid4().hex
        try:
            with self._found(source):
                os.link(self._path(source), part)  # no file is ever written again, so two names may share it
            self._name(part, self._path(target))
        except BlobStoreUnavailable as error:
            _forget(part)
            if getattr(error.__cause__, "errno", None) not in _NO_LINKS:
                raise
            with self.open(source) as blocks:
                self.put(target, blocks)

    def delete(self, keys: Iterable[str]) -> None:
        with _translated(self._root):
            self._root.stat()  # a drive that is not mounted has no files, and they are not deleted
            for key in keys:
                self._path(key).unlink(missing_ok=True)

    def keys(self, prefix: str) -> Iterator[StoredObject]:
        top = self._path(prefix.removesuffix("/")) if prefix else self._root
        with _translated(self._root):
            self._root.stat()
        for folder, names, files in os.walk(top, onerror=_refused):
            if Path(folder) == self._root and PARTS in names:
                names.remove(PARTS)
            names.sort()
            for name in sorted(files):
                path = Path(folder, name)
                with _translated(self._root):
                    try:
                        found = path.stat()
                    except FileNotFoundError:
                        continue  # deleted meanwhile
                modified = datetime.fromtimestamp(found.st_mtime, UTC)
                yield StoredObject(path.relative_to(self._root).as_posix(), found.st_size, modified)

    def clean(self, before: datetime) -> None:
        with _translated(self._root):
            for part in os.scandir(self._parts):
                if _PART.fullmatch(part.name) and part.stat().st_mtime < before.timestamp():
                    os.unlink(part)

    def presigned_get(self, key: str, seconds: int, disposition: str, content_type: str) -> str | None:
        del key, seconds, disposition, content_type
        return None

    def presigned_put(self, key: str, seconds: int) -> str | None:
        del key, seconds
        return None

    def close(self) -> None:
        """Do nothing: no file is kept open."""

    def _path(self, key: str) -> Path:
        return self._root / checked(key)

    def _name(self, part: Path, target: Path) -> None:
        """Give a finished file its name, durably."""
        with _translated(self._root):
            try:
                os.replace(part, target)
            except FileNotFoundError:  # the first file in its folder
                self._make(target.parent)
                os.replace(part, target)
            _sync_folder(target.parent)

    def _make(self, folder: Path) -> None:
        """Make a folder, and those above it that do not exist, durably."""
        if folder.is_dir():
            return
        self._make(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        _sync_folder(folder.parent)

    @contextmanager
    def _found(self, key: str) -> Iterator[None]:
        """Raise :class:`BlobMissing` if there is no such file, although the store is there."""
        with _translated(self._root):
            try:
                yield
            except FileNotFoundError as error:
                self._parts.stat()  # without its folders the store is away, and the file is not known to be lost
                raise BlobMissing(f"there is no file {key} in the store") from error

    def _blocks(self, file: int) -> Iterator[bytes]:
        while True:
            with _translated(self._root):
                block = os.read(file, BLOCK)
            if not block:
                return
            yield block


@contextmanager
def _translated(root: Path) -> Iterator[None]:
    """Raise our own error in place of the system's about the store's folder."""
    try:
        yield
    except OSError as error:
        raise _away(root, error) from error


def _away(root: Path, error: OSError) -> BlobStoreUnavailable:
    # Clients must not learn our paths, so only the log has it.
    return BlobStoreUnavailable("the store of files is not available", address=f"{root}: {error.strerror}")


def _refused(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # no file of that prefix yet
        raise _away(Path(error.filename), error) from error


def _forget(part: Path) -> None:
    with contextlib.suppress(OSError):  # what it leaves, clean() removes
        part.unlink(missing_ok=True)


def _write(file: int, block: bytes) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[os.write(file, rest) :]


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
