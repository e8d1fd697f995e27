"""Reads a mail. Pure: the same bytes are the same mail."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from html import escape
from typing import NamedTuple

from mailbbgun.mime_reading.charsets import decoded
from mailbbgun.mime_reading.correspondents import correspondents
from mailbbgun.mime_reading.mail import HTML_BYTES, SEARCHED_BYTES, TEXT_BYTES, Problems, ReadAttachment, ReadMail
from mailbbgun.mime_reading.parameters import filename, safe_name
from mailbbgun.mime_reading.parts import Part, header, parts
from mailbbgun.mime_reading.safe_html import plain, safe_html
from mailbbgun.mime_reading.shown import disposed, shown
from mailbbgun.mime_reading.transfer import named, undone, unflowed
from mailbbgun.mime_reading.words import field_text


def read(
    raw: bytes, *, attachment_url: Callable[[int], str] = "attachments/{}".format, remote: bool = False
) -> ReadMail:
    """Return a mail as its sender meant it.

    Args:
        attachment_url: Where the attachment of an index is, for images in the HTML.
        remote: Whether the safe HTML may load images from other servers.
    """
    raw, problems = _with_lines(raw), Problems()
    root = parts(raw, problems)
    sorted_ = shown(root)
    charset = _charset(sorted_.text + sorted_.html)
    files = tuple(_file(raw, part, index, charset, problems) for index, part in enumerate(sorted_.files))
    text = _joined(_text(raw, sorted_.text, problems, TEXT_BYTES))
    html = _joined(_text(raw, sorted_.html, problems, HTML_BYTES, as_html=True))
    urls = {file.content_id: attachment_url(file.index) for file in reversed(files) if file.content_id}
    return ReadMail(
        headers=tuple((field_text(name), field_text(value, charset)) for name, value in root.fields),
        subject=field_text(root.first(b"subject"), charset),
        sender=", ".join(correspondents(root.first(b"from"), charset)),
        to=correspondents(_all(root, b"to"), charset),
        cc=correspondents(_all(root, b"cc"), charset),
        date=_date(root.first(b"date")),
        text=text,
        html=html,
        html_safe=None if html is None else safe_html(html, urls, problems, remote=remote),
        attachments=files,
        problems=tuple(problems.told),
    )


def searchable(raw: bytes) -> str:
    """Return what a mail may be searched for: subject, correspondents, names of files, and text.

    Text and HTML are read so far as ``mail.SEARCHED_BYTES`` go, each.
    """
    raw, problems = _with_lines(raw), Problems()
    root = parts(raw, problems)
    sorted_ = shown(root)
    charset = _charset(sorted_.text + sorted_.html)
    told = [field_text(_all(root, name)[:SEARCHED_BYTES], charset) for name in (b"subject", b"from", b"to", b"cc")]
    told += [filename(disposed(part), part.type, charset) or "" for part in sorted_.files]
    texts = _text(raw, [_beginning(part) for part in sorted_.text], problems, SEARCHED_BYTES)
    html = [_beginning(part) for part in sorted_.html if part.type.value == "text/html"]
    texts += [plain(one) for one in _text(raw, html, problems, SEARCHED_BYTES)]
    return "\n".join(told + texts)


def _beginning(part: Part) -> Part:
    """Return a part cut off where its text is long enough in any encoding: a byte is three in quoted-printable."""
    return replace(part, end=min(part.end, part.start + 4 * SEARCHED_BYTES))


class AttachmentContent(NamedTuple):
    """An attachment with its bytes."""

    attachment: ReadAttachment
    data: bytes


def contents(raw: bytes) -> list[AttachmentContent]:
    """Return all attachments of a mail. Together they are not larger than it."""
    raw, problems = _with_lines(raw), Problems()
    sorted_ = shown(parts(raw, problems))
    charset = _charset(sorted_.text + sorted_.html)
    return [
        AttachmentContent(_file(raw, part, index, charset, problems), _octets(raw, part, problems))
        for index, part in enumerate(sorted_.files)
    ]


def fields_of(raw: bytes) -> list[tuple[str, str]]:
    """Return the fields of a mail's header, decoded and on one line each, without looking at its body."""
    found, _ = header(raw, 0, len(raw), Problems())
    return [(field_text(name), field_text(value)) for name, value in found]


def content(raw: bytes, index: int) -> AttachmentContent | None:
    """Return an attachment of a mail by its index; None if there is none."""
    raw, problems = _with_lines(raw), Problems()
    sorted_ = shown(parts(raw, problems))
    if not 0 <= index < len(sorted_.files):
        return None
    part = sorted_.files[index]
    attachment = _file(raw, part, index, _charset(sorted_.text + sorted_.html), problems)
    return AttachmentContent(attachment, _octets(raw, part, problems))


def _with_lines(raw: bytes) -> bytes:
    """Return the bytes in lines: some old programs end them with CR alone."""
    return raw.replace(b"\r", b"\n") if b"\n" not in raw else raw


def _all(root: Part, name: bytes) -> bytes:
    """Return the values of all fields of a name as one: some mailers write several To."""
    return b", ".join(value for key, value in root.fields if key.lower() == name)


def _charset(body: list[Part]) -> str | None:
    """Return the charset that the mail's text names, for header fields that name none."""
    return next((given for part in body if (given := part.type.word("charset"))), None)


def _octets(raw: bytes, part: Part, problems: Problems) -> bytes:
    """Return the bytes of a part's body, without transfer encoding."""
    encoding = named(part.first(b"content-transfer-encoding").decode("latin-1"))
    # A multipart has none (RFC 2045 §6.4).
    data, problem = undone(raw[part.start : part.end], "" if part.type.value.startswith("multipart/") else encoding)
    problems.tell(problem)
    return data


def _text(raw: bytes, body: list[Part], problems: Problems, most: int, *, as_html: bool = False) -> list[str]:
    """Return parts as text, with LF at the ends of lines: of all together at most so many bytes."""
    texts: list[str] = []
    for part in body:
        data = _octets(raw, part, problems)
        if len(data) > most:
            problems.tell("The text is too large: not all of it is shown.")
        found = decoded(data[:most], part.type.word("charset") or _meta(data, part))
        problems.tell(found.problem)
        most -= min(most, len(data))
        text = found.text.replace("\r\n", "\n").replace("\r", "\n")
        if part.type.value == "text/plain":
            if part.type.word("format") == "flowed":
                text = unflowed(text, delete_space=part.type.word("delsp") == "yes")
            text = f"<pre>{escape(text, quote=False)}</pre>" if as_html and text else text
        texts.append(text)
    return texts


def _meta(data: bytes, part: Part) -> str | None:
    """Return the charset that HTML names itself."""
    before, found, after = data[:4_000].lower().partition(b"charset=")
    if part.type.value != "text/html" or not found or b"<meta" not in before:
        return None
    return after.lstrip(b"\"' ")[:40].split(b'"')[0].split(b"'")[0].split(b">")[0].strip(b" /;").decode("latin-1")


def _joined(texts: list[str]) -> str | None:
    """Return texts as one, without empty ones; None if there is no text, not even an empty one."""
    return "\n".join(filter(None, texts)) if texts else None


def _file(raw: bytes, part: Part, index: int, charset: str | None, problems: Problems) -> ReadAttachment:
    where = disposed(part)
    name = filename(where, part.type, charset)
    data = _octets(raw, part, problems)
    if name is None and part.type.value == "message/rfc822":
        subject = next(
            (value for key, value in header(data, 0, len(data), Problems())[0] if key.lower() == b"subject"), b""
        )
        name = safe_name(field_text(subject, charset)[:100].replace("/", "-").replace("\\", "-") or "message")
        name = f"{name or 'message'}.eml"
    content_id = field_text(part.first(b"content-id"))[:1_000].strip("<> ") or None
    inline = where.value == "inline" or (content_id is not None and not where.value)
    return ReadAttachment(index, name, part.type.value, len(data), content_id, inline)


def _date(value: bytes) -> datetime | None:
    """Return a date of a header field; None if it is none. One without a zone is in UTC (RFC 5322 §3.3)."""
    try:
        date = parsedate_to_datetime(value[:100].decode("latin-1"))
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
