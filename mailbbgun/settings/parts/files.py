"""The settings about files: how large they may be, which are accepted, and who scans them."""

from dataclasses import dataclass
from typing import Literal

from mailbbgun.settings.values import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSettings:
    """A part of :class:`~mailbbgun.settings.settings.Settings`."""

    MAX_MESSAGE_SIZE: int = setting(
        41_943_040,
        "Largest message as it is sent: a file takes a third more there than on a disk. Many servers take less.",
        least=1024,
        most=1_000_000_000,
    )
    MAX_FILE_SIZE: int = setting(
        26_214_400, "Largest file that may be uploaded or attached, in bytes.", least=1, most=5_000_000_000
    )
    MAX_FILES_PER_REQUEST: int = setting(
        10, "Most files in one request: of an upload, or of a message.", least=1, most=1000
    )
    ATTACHMENT_DAYS: int = setting(
        30,
        "How many days an uploaded file is kept after its last use. A file that a message needs is kept as long as "
        "that. 0: for ever.",
        least=0,
        most=36_500,
    )
    DELETE_ORPHANS: bool = setting(
        False,
        "Let workers delete files of BLOBS_URL that no row knows, a day after they were written, wherever that is. Say "
        "so only if no other database uses that store, not even a copy of this one. In a folder in VAR they always do.",
    )
    ALLOWED_FILE_TYPES: tuple[str, ...] = setting(
        (
            *("pdf", "rtf", "doc", "docx", "dot", "dotx", "xls", "xlsx", "xltx", "ppt", "pptx", "ppsx", "odt"),
            *("ods", "odp", "odg", "epub", "txt", "log", "csv", "tsv", "md", "json", "xml", "html", "htm", "ics"),
            *("vcf", "eml", "jpg", "jpeg", "png", "gif", "webp", "tif", "tiff", "bmp", "heic", "heif", "avif"),
            *("svg", "mp3", "wav", "ogg", "m4a", "flac", "mp4", "mov", "webm", "avi", "zip", "asc", "bin"),
        ),
        "Extensions of files that may be sent. A file whose content is of another type than its extension says "
        'is refused. "*": all.',
    )
    MACRO_DOCUMENTS: Literal["reject", "allow"] = setting("reject", "What to do with documents that have macros.")
    NESTED_ARCHIVES: Literal["reject", "allow"] = setting(
        "reject", "What to do with ZIP archives that hold other archives or programs. Nothing is ever unpacked."
    )
    CLAMAV_URL: str = setting(
        "",
        "The virus scanner: tcp://host:3310 or unix:/run/clamav/clamd.ctl, where ClamAV's clamd listens. Its "
        "StreamMaxLength must be at least MAX_FILE_SIZE. Empty: files are not scanned.",
    )
    SCANNER_DOWN: Literal["hold", "reject", "allow"] = setting(
        "hold",
        "What to do while the virus scanner does not answer. hold: uploads and messages are accepted, and messages "
        "with files wait until these have been scanned. reject: uploads, and messages with files that have not "
        "been scanned, get 503. allow: files go out unscanned.",
    )
    SPOOL_SIZE: int = setting(
        1_073_741_824,
        "Room in {VAR}/spool for the messages with files that one worker.py is sending, all its processes "
        "together. Further ones wait. A larger message is sent while no other one is there.",
        least=1_000_000,
        most=1_000_000_000_000,
    )
