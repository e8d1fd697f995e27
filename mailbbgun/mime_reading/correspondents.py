"""Fields of addresses, as people write them, become a list (RFC 5322 §3.4). Pure.

They are taken apart before they are decoded: a decoded name may have commas and brackets of its own.
"""

import re

from mailbbgun.mime_reading.mail import ADDRESSES
from mailbbgun.mime_reading.words import WORD, field_text

_TOKEN = re.compile(
    WORD.pattern.replace(b"(", b"(?:").replace(b"(?:?:", b"(?:")
    + rb'|"(?:[^"\\]|\\.)*+"?|<[^>]*+>?|\((?:[^()\\]|\\.)*+\)?|[,;:]|[^"<(,;:=]++|.',
    re.DOTALL,
)
_SPECIAL = re.compile(r'[,;:<>@"()\[\]\\]')
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_BARE = re.compile(r"[^\s<>@]+@[^\s<>@]+")


def correspondents(field: bytes, charset: str | None) -> tuple[str, ...]:
    """Return each address of a field like ``Ann <ann@example.com>``, or bare if it has no name.

    Names of groups are left out, their members are not.
    """
    found: list[str] = []
    name: list[bytes] = []
    comment, address = b"", None
    for token in [*(match[0] for match in _TOKEN.finditer(field)), b","]:
        if token in {b",", b";"}:
            shown = _shown(b"".join(name), address, comment, charset)
            found += [shown] if shown else []
            name, comment, address = [], b"", None
            if len(found) >= ADDRESSES:
                break
        elif token == b":" and address is None:
            name = []  # it was the name of a group
        elif token.startswith(b"<") and address is None:
            address = token.strip(b"<> \t")
        elif token.startswith(b"(") and len(token) > 1:
            comment = token.strip(b"()")
        elif token.startswith(b'"') and len(token) > 1:
            name.append(_ESCAPED.sub(rb"\1", token.removeprefix(b'"').removesuffix(b'"')))
        else:
            name.append(token)
    return tuple(found)


def _shown(name: bytes, address: bytes | None, comment: bytes, charset: str | None) -> str:
    text = field_text(name, charset)
    if address is None:
        # "ann@example.com (Ann)" is the form of old mailers.
        if not _BARE.fullmatch(text.replace(" ", "")):
            return text
        text, address = field_text(comment, charset), text.replace(" ", "").encode()
    bare = field_text(address, charset)
    if not text or text == bare:
        return bare
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}" <{bare}>' if _SPECIAL.search(text) else f"{text} <{bare}>"
