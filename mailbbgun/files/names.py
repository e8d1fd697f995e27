"""Names of shared files: parts with slashes between them, like paths. Pure."""

import unicodedata

from mailbbgun.core.errors import InvalidInput
from mailbbgun.safety.names import safe_name

#: Characters of a whole name, at most.
LONGEST = 1024

_EXAMPLE = "give one like reports/2026/may.pdf"


def fault(name: str) -> str:
    """Say what is wrong with a name, and what would be right; "" if nothing is."""
    if not name or len(name) > LONGEST:
        return f"A name has 1 to {LONGEST} characters, this one has {len(name)}; {_EXAMPLE}."
    for part in name.split("/"):
        if part in ("", ".", ".."):
            return f"The name has the part {part!r} between slashes; {_EXAMPLE}."
        if (safe := safe_name(part)) != part:
            return f"The part {part[:60]!r} of the name could mislead people or programs; {safe[:60]!r} is possible."
    return ""


def checked(name: str, field: str = "name") -> str:
    """Return a name in NFC. Raises :class:`InvalidInput` about this field for one that may not be."""
    normal = unicodedata.normalize("NFC", name)
    if why := fault(normal):
        raise InvalidInput("Some fields are not valid.", fields={field: [why]})
    return normal


def in_folder(folder: str, filename: str) -> str:
    """Return the name of a file in a folder, which may end with a slash; "" is the top."""
    return checked(f"{folder.removesuffix('/')}/{filename}" if folder else filename, "folder" if folder else "file")
