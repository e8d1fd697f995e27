"""Makes names of files safe to show and to save. Pure."""

import re
import unicodedata

#: Longest name, in units of UTF-16, as Windows and macOS count.
MAX_NAME = 255

#: Longest extension that is kept when a name is cut.
_MAX_EXTENSION = 20

#: The name of a file that has none.
NAMELESS = "attachment"

#: Zero width joiners: emoji and some scripts need them. All other invisible characters go, such as
#: those that turn the direction of text (``gpj.exe`` shown as ``exe.jpg``).
_JOINERS = "\u200c\u200d"

#: Characters that look like a space. A long row of them hides the extension.
_BLANKS = "\u115f\u1160\u2800\u3164\uffa0"

#: Windows' file systems refuse these, or give them a meaning. The quotation mark, which it refuses, too,
#: stays: people use it, and mail programs replace it when they save the file.
_FORBIDDEN = re.compile(r"[<>:|?*]")

#: Names of devices in each folder of Windows, with any extension.
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3])\s*(\.|$)", re.IGNORECASE)


def safe_name(name: str) -> str:
    """Return a file's name without what could mislead a person, a shell or a file system.

    Only what follows the last slash or backslash is left. Control, direction and other invisible
    characters go, and spaces and dots at the end. Rows of spaces become one, ``<>:|?*`` become ``_``,
    and a name of a Windows device gets a ``_`` in front. A name longer than `MAX_NAME` keeps its
    extension. If nothing is left, the name is `NAMELESS`. A safe name stays as it is.
    """
    name = unicodedata.normalize("NFC", _visible(name)).replace("\\", "/").rstrip("/ ").rpartition("/")[2]
    name = _trimmed(_FORBIDDEN.sub("_", name))
    if _DEVICES.match(name):
        name = f"_{name}"
    return _trimmed(_cut(name)) or NAMELESS


def extension(name: str) -> str:
    """Return what follows the last dot of a name, in lower case; empty if there is none."""
    stem, dot, last = name.rpartition(".")
    return last.strip().lower() if dot and stem else ""


def _visible(name: str) -> str:
    return "".join(filter(None, map(_shown, name)))


def _shown(character: str) -> str:
    if character in _BLANKS:
        return " "
    category = unicodedata.category(character)
    if category in ("Zs", "Zl", "Zp") or character in "\t\n\r":
        return " "
    # Control, format, surrogate, private and unassigned characters.
    return "" if category[0] == "C" and character not in _JOINERS else character


def _trimmed(name: str) -> str:
    return re.sub(r" {2,}", " ", name).strip(" " + _JOINERS).rstrip(" ." + _JOINERS)


def _cut(name: str) -> str:
    """Return the name cut to `MAX_NAME`, in the middle of no character."""
    if _units(name) <= MAX_NAME:
        return name
    stem, dot, last = name.rpartition(".")
    if not stem or _units(last) > _MAX_EXTENSION:
        stem, dot, last = name, "", ""
    room = MAX_NAME - _units(dot + last)
    stem = stem.encode("utf-16-le")[: 2 * room].decode("utf-16-le", "ignore")
    while stem and (unicodedata.combining(stem[-1]) or stem[-1] in _JOINERS):
        stem = stem[:-1]
    return stem.rstrip(" ") + dot + last


def _units(text: str) -> int:
    return len(text) + sum(character > "\uffff" for character in text)
