"""Which parts of a mail are its text, which its HTML, and which are files (after RFC 8621 §4.1.4). Pure."""

from dataclasses import dataclass, field

from mailbbgun.mime_reading.parameters import ContentField, disposition
from mailbbgun.mime_reading.parts import Part

_TEXTS = {"text/plain", "text/html"}
_ALTERNATIVE, _RELATED = "multipart/alternative", "multipart/related"


@dataclass(slots=True)
class BodyParts:
    """The parts of a mail by what a reader does with them, each in the order of the mail."""

    text: list[Part] = field(default_factory=list)
    html: list[Part] = field(default_factory=list)
    files: list[Part] = field(default_factory=list)


def shown(root: Part) -> BodyParts:
    """Return what is text, what is HTML and what are files.

    A mail whose only parts are one in HTML and some in plain text beside it, like a list's footer, has
    all of them in its HTML.
    """
    found = BodyParts()
    if root.type.value.startswith("multipart/") and root.children:
        _sort(root, found, within_alternative=False)
    else:
        _place(root, found, body=root.type.value in _TEXTS and not _is_attached(root), alternative=False)
    if not any(part.type.value == "text/html" for part in found.html):
        found.html.clear()
    return found


def disposed(part: Part) -> ContentField:
    """Return the Content-Disposition of a part."""
    return disposition(part.first(b"content-disposition"))


def _is_attached(part: Part) -> bool:
    return disposed(part).value not in {"", "inline"}


def _has_name(part: Part) -> bool:
    names = {*part.type.parameters, *disposed(part).parameters}
    return any(name.partition("*")[0] in {"name", "filename"} for name in names)


def _sort(parent: Part, found: BodyParts, *, within_alternative: bool) -> None:
    kind = parent.type.value
    alternative = within_alternative or kind == _ALTERNATIVE
    texts, htmls = len(found.text), len(found.html)
    for number, part in enumerate(parent.children):
        if part.children:
            _sort(part, found, within_alternative=alternative)
            continue
        # Of related parts the first is shown; text with a name is a file, unless it comes first.
        body = part.type.value in _TEXTS and not _is_attached(part)
        body = body and (number == 0 or (kind != _RELATED and not _has_name(part)))
        _place(part, found, body=body, alternative=alternative)
    if kind == _ALTERNATIVE and len(found.text) > texts and len(found.html) == htmls:
        # There was no HTML to choose: the text stands in both.
        found.html += found.text[texts:]


def _place(part: Part, found: BodyParts, *, body: bool, alternative: bool) -> None:
    if not body:
        found.files.append(part)
    elif part.type.value == "text/html":
        found.html.append(part)
    else:
        found.text.append(part)
        if not alternative:
            found.html.append(part)
