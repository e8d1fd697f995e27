"""The verb: find out whether a file may be sent, when it is uploaded, named by a message, and sent.

Its name, type, archives and macros are judged while it passes by. The virus scanner is asked once for
each content, and its verdict is kept.
"""

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import NamedTuple
from uuid import UUID

from mailbbgun.attachments import content, repo, store
from mailbbgun.attachments.find import FoundFile
from mailbbgun.attachments.models import CLEAN, UNSCANNED, Blob
from mailbbgun.attachments.store import StoredFile
from mailbbgun.blobs.base import BLOCK
from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import FileRefused, ScannerUnavailable, VirusFound
from mailbbgun.safety.examine import Examination, Rules, SafeFile
from mailbbgun.safety.mail_files import MailFile, files_in
from mailbbgun.safety.names import extension, safe_name
from mailbbgun.safety.scanner import Scanner, ScannerTurns
from mailbbgun.services import Services

log = logging.getLogger("mailbbgun.attachments")


#: Seconds that an upload waits for its turn at the scanner.
TURN_SECONDS = 10.0

#: What stands for the name of a file where the scanner was asked about a whole mail.
WHOLE_MAIL = "message.eml"

#: ClamAV takes a file for a mail, and decodes its parts, only if it begins with a field that it knows.
_KNOWN_BEGINNING = b"Received: by localhost\r\n"

#: Judgements that are remembered.
_REMEMBERED = 10_000


class _Judgements:
    """The last judgements of files that were accepted. Thread-safe."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[UUID, str, str, str], str] = OrderedDict()
        self._lock = threading.Lock()

    def type_of(self, tenant_id: UUID, sha256: str, name: str, declared: str) -> str | None:
        """Return the media type of a content that was accepted under this extension before."""
        return self._known.get((tenant_id, sha256, extension(name), declared))

    def add(self, tenant_id: UUID, sha256: str, name: str, declared: str, content_type: str) -> None:
        """Remember a judgement, and forget the oldest one if there are too many."""
        with self._lock:
            self._known[tenant_id, sha256, extension(name), declared] = content_type
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)


class RefusedFile(NamedTuple):
    """A file that was refused. ``reason`` is the code of the error, and ``why`` its sentence."""

    filename: str
    sha256: str
    size: int
    reason: str
    why: str


class Inspector:
    """Knows which files may be sent. Make one for a process: it remembers what it has judged."""

    def __init__(self, services: Services, tell: Callable[[Caller, RefusedFile], None] | None = None) -> None:
        """``tell`` is called for each file that is refused to a caller, before the error is raised."""
        self._tell = tell
        settings = services.settings
        self._db, self._blobs, self._scanner = services.db, services.blobs, services.scanner
        self._rules, self._down = Rules.of(settings), settings.SCANNER_DOWN
        self._judgements, self._turns = _Judgements(), ScannerTurns()

    def take(
        self, who: Caller, blocks: Iterable[bytes], filename: str, declared: str, *, most: int, size: int | None
    ) -> tuple[StoredFile, SafeFile]:
        """Store a caller's upload like :func:`store.take`, and judge it.

        Raises what :func:`store.take` raises, :class:`FileRefused`, :class:`VirusFound`, and
        :class:`ScannerUnavailable` if the setting says so. The content is then deleted within two hours.
        """
        examination = Examination()
        name, tenant_id = safe_name(filename), who.tenant_id
        watched = examination.watch(blocks)
        stored = store.take(self._db, self._blobs, tenant_id, watched, most=most, size=size, name=name)
        with self._telling(who, name, stored.sha256, stored.size):
            judged = examination.judge(filename, declared, self._rules)
            self._judgements.add(tenant_id, stored.sha256, name, declared, judged.content_type)
            self._scan(tenant_id, {stored.sha256: judged.filename})
        return stored, judged

    def named(self, who: Caller, files: Collection[FoundFile]) -> list[SafeFile]:
        """Judge the files that a caller's message names; return the name and type under which each is sent.

        A content is read for this if it is not known yet under this extension, as after an upload straight
        to the store. Raises like :meth:`take`, and :class:`BlobMissing`.
        """
        judged = []
        for file in files:
            with self._telling(who, safe_name(file.filename), file.sha256, file.size):
                judged.append(self._judged(who.tenant_id, file))
                self._scan(who.tenant_id, {file.sha256: judged[-1].filename})
        return judged

    def mail(self, who: Caller, mime: bytes) -> None:
        """Judge the files in a whole mail of a caller, and scan all of it.

        Raises :class:`FileRefused`, :class:`VirusFound`, and :class:`ScannerUnavailable` unless mail may go out
        unscanned: its sender keeps it, and tries again.
        """
        for file in files_in(mime):
            sha256 = hashlib.sha256(file.content).hexdigest()
            with self._telling(who, safe_name(file.filename), sha256, len(file.content)):
                self._examined(file)
        if self._scanner is not None:
            with self._telling(who, WHOLE_MAIL, hashlib.sha256(mime).hexdigest(), len(mime)):
                self._scan_mail(self._scanner, who.tenant_id, mime)

    def _examined(self, file: MailFile) -> SafeFile:
        examination = Examination()
        for block in _blocks(file.content):
            examination.look(block)
        return examination.judge(file.filename, file.content_type, self._rules)

    def _scan_mail(self, scanner: Scanner, tenant_id: UUID, mime: bytes) -> None:
        try:
            with self._turns.one(TURN_SECONDS):
                found = scanner.scan(chain((_KNOWN_BEGINNING,), _blocks(mime)))
        except ScannerUnavailable as error:
            if self._down != "allow":
                raise
            log.warning("unscanned", extra={"tenant_id": tenant_id, "error": str(error)})
            return
        if found.state == "infected":
            log.warning("virus_found", extra={"tenant_id": tenant_id, "found": found.words})
        self._refuse(found.state, found.words, WHOLE_MAIL)

    def ready(self, tenant_id: UUID, names: Mapping[str, str]) -> None:
        """Find out whether a message may leave now; scan those of its files that were not.

        ``names``: SHA-256 → the name to show. Raises :class:`FileRefused` or :class:`VirusFound` if the
        message may never leave, and :class:`ScannerUnavailable` if it has to wait for the scanner.
        """
        self._scan(tenant_id, names, waits=True)

    @contextmanager
    def _telling(self, who: Caller, filename: str, sha256: str, size: int) -> Iterator[None]:
        """Tell of a file that the block refuses."""
        try:
            yield
        except FileRefused as error:
            if self._tell is not None:
                self._tell(who, RefusedFile(filename, sha256, size, error.code, str(error)))
            raise

    def _judged(self, tenant_id: UUID, file: FoundFile) -> SafeFile:
        name, declared = safe_name(file.filename), file.content_type or ""
        if known := self._judgements.type_of(tenant_id, file.sha256, name, declared):
            return SafeFile(name, known)
        examination = Examination()
        for block in self._content(tenant_id, file.object_id, file.sha256, file.size):
            examination.look(block)
        judged = examination.judge(name, declared, self._rules)
        self._judgements.add(tenant_id, file.sha256, name, declared, judged.content_type)
        return judged

    def _scan(self, tenant_id: UUID, names: Mapping[str, str], *, waits: bool = False) -> None:
        """Scan the contents that were not, and refuse what was found. ``waits``: a message can wait for it."""
        if self._scanner is None or not names:
            return
        with self._db.read(tenant_id) as session:
            blobs = repo.blobs(session, tenant_id, set(names))
        for blob in blobs:
            state, words = blob.scan, blob.scan_result or ""
            if state == UNSCANNED:
                holds = waits and self._down == "hold"
                try:
                    state, words = self._scanned(self._scanner, tenant_id, blob, 0.0 if holds else TURN_SECONDS)
                except ScannerUnavailable as error:
                    if holds or self._down == "reject":
                        raise
                    log.warning("unscanned", extra={"tenant_id": tenant_id, "sha256": blob.sha256, "error": str(error)})
                    continue
            self._refuse(state, words, names[blob.sha256])

    def _refuse(self, state: str, words: str, name: str) -> None:
        if state == "infected":
            raise VirusFound(f"{name!r} is not accepted: the virus scanner found {words}.")
        if state != CLEAN and self._down != "allow":
            raise FileRefused(f"{name!r} is not accepted: the virus scanner cannot scan it: {words}.")

    def _scanned(self, scanner: Scanner, tenant_id: UUID, blob: Blob, patience: float) -> tuple[str, str]:
        """Return what the scanner says of a content, and keep it. ``patience``: seconds to wait for a turn."""
        with self._turns.one(patience):
            found = scanner.scan(self._content(tenant_id, blob.object_id, blob.sha256, blob.size))
        with self._db.write(tenant_id) as session:
            repo.scanned(session, tenant_id, blob.sha256, found.state, found.words)
        if found.state == "infected":
            told = {"tenant_id": tenant_id, "sha256": blob.sha256, "found": found.words}
            log.warning("virus_found", extra=told)
        return found.state, found.words

    def _content(self, tenant_id: UUID, object_id: UUID, sha256: str, size: int) -> Iterator[bytes]:
        with content.opened(self._blobs, tenant_id, object_id, sha256=sha256, size=size) as blocks:
            yield from blocks


def _blocks(content: bytes) -> Iterator[bytes]:
    return (content[start : start + BLOCK] for start in range(0, len(content), BLOCK))
