"""The Maildirs of mailboxes below MAILDIR_ROOT, which an IMAP server may serve.

A file is written before the delivery's result is committed, and its name is made of the delivery's
id. So a delivery that is repeated after a crash writes the same file again.
"""

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

from mailbbgun.mailboxes.maildir import FOLDERS, store
from mailbbgun.mailboxes.models import INBOX

#: Characters of a folder's name, at most. A file system takes 255 octets.
LONGEST_NAME = 200


def folder_of(root: Path, address: str) -> Path:
    """Return the Maildir of a mailbox: ``domain/local``.

    Characters that are no letters, digits, or among ``+-_.=`` are written ``%XX``, so that no address names
    a folder elsewhere or a hidden one.
    """
    local, _, domain = address.rpartition("@")
    name = quote(local, safe="+-_.=")
    if name.startswith("."):
        name = f"%2E{name[1:]}"
    return root / domain / (name if len(name) <= LONGEST_NAME else sha256(local.encode()).hexdigest())


def name_of(delivery_id: UUID) -> str:
    """Return the name of a delivery's file: the second in which it was accepted, its id, and who made it."""
    return f"{(delivery_id.int >> 80) // 1000}.{delivery_id.hex}.mailbbgun"


def write(root: Path, address: str, into: str, delivery_id: UUID, pieces: Iterable[bytes], *, repeated: bool) -> None:
    """Write a mail into a folder of the Maildir of a mailbox, which is made if it is missing.

    ``repeated``: an earlier attempt may have written it, and a reader may have moved that file to
    ``cur``; then nothing is done. Raises ``OSError``.
    """
    folder, name = folder_of(root, address), name_of(delivery_id)
    if into != INBOX:
        folder /= f".{into}"  # as in Maildir++
    for part in FOLDERS:
        (folder / part).mkdir(mode=0o700, parents=True, exist_ok=True)
    if repeated and any(found.name.partition(":")[0].partition(",")[0] == name for found in (folder / "cur").iterdir()):
        return
    store(folder, name, pieces)
