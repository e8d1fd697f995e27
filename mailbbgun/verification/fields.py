"""Writes the results into a message: Authentication-Results (RFC 8601) and fields about spam. Pure."""

import re
from collections.abc import Collection, Iterator, Mapping

from mailbbgun.domains.dkim import split
from mailbbgun.smtp.folding import folded_lines
from mailbbgun.verification.message import SignedMessage
from mailbbgun.verification.verdict import ARCResult, DKIMResult, DMARCResult, SPFResult

NAME = "Authentication-Results"

#: A value that needs no quotes (RFC 2045 §5.1, token), and what may never be in one.
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]+")
_NEVER = re.compile(r"[^\x20-\x7e]")

#: Characters of a value that are shown.
_SHOWN = 253

_COMMENT = re.compile(rb"\([^()]*\)")
_MARKS = re.compile(rb'[\\"\s]')
#: Levels of comments in comments that are read.
_DEPTH = 10


def authentication_results(
    authserv_id: str, spf: SPFResult, dkim: tuple[DKIMResult, ...], arc: ARCResult, dmarc: DMARCResult
) -> str:
    """Return the value of the field, folded at 78 columns."""
    results = [
        _entry("spf", spf.result, {f"smtp.{spf.identity}": spf.domain}, spf.reason),
        *(_of_signature(one) for one in dkim or (DKIMResult("none"),)),
        _entry("arc", arc.result, {}, arc.reason, f"i={arc.sets}" if arc.sets else ""),
        _entry("dmarc", dmarc.result, {"header.from": dmarc.domain}, dmarc.reason, f"p={dmarc.wish}"),
    ]
    words = [f"{authserv_id};"]
    for place, entry in enumerate(results):
        entry[-1] += ";" if place < len(results) - 1 else ""
        words += entry
    return "\r\n".join(folded_lines(f"{NAME}:", words))[len(NAME) + 2 :]


def _of_signature(one: DKIMResult) -> list[str]:
    known = {"header.d": one.domain, "header.s": one.selector, "header.a": one.algorithm, "header.b": one.start}
    return _entry("dkim", one.result, known, one.reason)


def _entry(method: str, word: str, properties: Mapping[str, str], reason: str = "", comment: str = "") -> list[str]:
    """Return one result as words that may stand on different lines (RFC 8601 §2.2)."""
    words = [f"{method}={word}"]
    if comment:
        words.append(f"({comment})")
    if reason and word not in ("pass", "none"):
        words.append(f"reason={_quoted(reason)}")
    return words + [f"{name}={_value(value)}" for name, value in properties.items() if value]


def _value(text: str) -> str:
    return text if len(text) <= _SHOWN and _TOKEN.fullmatch(text) else _quoted(text)


def _quoted(text: str) -> str:
    """Return a quoted string that no text can leave, and that fits into a line."""
    return '"' + _NEVER.sub("?", text[:_SHOWN]).replace("\\", "?").replace('"', "'") + '"'


def marked(raw: bytes, authserv_id: str, fields: Mapping[str, str], forbidden: Collection[str] = ()) -> bytes:
    """Return a message with these fields before its header.

    ``fields`` has values as :func:`authentication_results` returns them, by name. Fields that pretend to be ours
    are removed: those of the same name, but of Authentication-Results only those with our ``authserv_id``, so that
    what other servers found stays (RFC 8601 §5). A field that cannot be read and has our name in it goes, too,
    and so do those whose names are ``forbidden``.
    """
    message = SignedMessage(raw)
    ours = {name.lower().encode() for name in (*fields, *forbidden)} - {NAME.lower().encode()}
    kept = b"".join(_kept(message.header, authserv_id.lower().encode(), ours))
    before = "".join(f"{name}: {value}\r\n" for name, value in fields.items()).encode("ascii", "replace")
    return b"".join((before, kept, memoryview(raw)[len(message.header) :]))


def _kept(header: bytes, authserv_id: bytes, ours: set[bytes]) -> Iterator[bytes]:
    whole = header.removesuffix(b"\r\n")
    lines = split(whole)
    if not any(_is_forged(name, value, authserv_id, ours) for name, value in lines):
        yield header
        return
    for one in re.split(rb"\r\n(?![ \t])", whole):
        name = one.partition(b":")[0].rstrip(b" \t").lower()
        if not _is_forged(name, one, authserv_id, ours):
            yield one + b"\r\n"


def _is_forged(name: bytes, whole: bytes, authserv_id: bytes, ours: set[bytes]) -> bool:
    if name in ours:
        return True
    if name != NAME.lower().encode():
        return False
    text = _MARKS.sub(b"", whole).lower()
    if authserv_id in text:
        return True
    for _ in range(_DEPTH):
        text, count = _COMMENT.subn(b"", text)
        if not count:
            break
    return authserv_id in text
