"""HTML of a stranger becomes HTML that may be shown: nothing in it runs, sends or loads. Or plain text. Pure.

``nh3`` decides what stays, by lists of what may. Images are those of the mail itself, unless others
are asked for: loading one tells its server who reads when. Style sheets and scripts are dropped.
"""

import re
from collections.abc import Callable, Mapping
from html import unescape
from urllib.parse import unquote

import nh3

from mailbbgun.mime_reading.balanced import ATTRIBUTES, KEPT, balanced
from mailbbgun.mime_reading.mail import Problems

# Properties that cannot load anything, nor put an element over the page around it.
_STYLES = {
    "background-color", "border", "border-bottom", "border-bottom-color", "border-collapse", "border-color",
    "border-left", "border-radius", "border-right", "border-spacing", "border-style", "border-top",
    "border-width", "color", "direction", "font", "font-family", "font-size", "font-style", "font-variant",
    "font-weight", "height", "letter-spacing", "line-height", "list-style-type", "margin", "margin-bottom",
    "margin-left", "margin-right", "margin-top", "max-width", "min-width", "padding", "padding-bottom",
    "padding-left", "padding-right", "padding-top", "text-align", "text-decoration", "text-indent",
    "text-transform", "vertical-align", "white-space", "width", "word-break",
}  # fmt: skip
_LINK = re.compile(r"(?:https?|mailto|tel):", re.IGNORECASE)
_REMOTE = re.compile(r"(?:https?:)?//", re.IGNORECASE)
_IN_MAIL = re.compile(r"data:image/(?:png|gif|jpeg|jpg|webp|bmp)[;,]", re.IGNORECASE)
_LOADS = re.compile(r"url|image|src|expression|\\", re.IGNORECASE)
# It looks at no character twice.
_TAG = re.compile(r"<(?:(/?)([A-Za-z][A-Za-z0-9]{0,20})|[/!?])[^<>]*>?")
_HIDDEN = {"script", "style", "title"}
_INLINE = {"a", "abbr", "b", "big", "em", "font", "i", "mark", "s", "small", "span", "strong", "sub", "sup", "u", "wbr"}
_BLANK = re.compile(r"[\x00-\x20]+")


def safe_html(html: str, files: Mapping[str, str], problems: Problems, *, remote: bool) -> str:
    """Return HTML that may be shown to a person.

    Args:
        files: The URL of each file in the mail, by its Content-ID.
        remote: Whether images may be loaded from other servers.
    """
    return nh3.clean(
        balanced(html, problems),
        tags=KEPT,
        clean_content_tags={"script", "style"},
        attributes={"*": ATTRIBUTES - {"href", "src"}, "a": {"href"}, "img": {"src"}},
        attribute_filter=_filter(files, remote=remote),
        url_schemes={"http", "https", "mailto", "tel", "cid", "data"},
        filter_style_properties=_STYLES,
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )


def plain(html: str) -> str:
    """Return the text of HTML, to be searched: it may have too much, or blanks in the wrong places."""
    texts: list[str] = []
    hidden = ""
    at = 0
    for tag in _TAG.finditer(html):
        if not hidden:
            texts.append(html[at : tag.start()])
        at = tag.end()
        slash, name = tag[1], (tag[2] or "").lower()
        if name in _HIDDEN:
            hidden = "" if slash else hidden or name
        elif name not in _INLINE:
            texts.append(" ")
    if not hidden:
        texts.append(html[at:])
    return unescape("".join(texts))


def _filter(files: Mapping[str, str], *, remote: bool) -> Callable[[str, str, str], str | None]:
    def kept(element: str, attribute: str, value: str) -> str | None:
        if attribute == "src":
            return _image(_BLANK.sub("", value), files, remote=remote)
        if attribute == "href":
            address = value.strip()
            return address if _LINK.match(address) else None
        if attribute == "style":
            return None if _LOADS.search(value) else value
        return value

    return kept


def _image(address: str, files: Mapping[str, str], *, remote: bool) -> str | None:
    """Return where an image is loaded from; None if it is not."""
    if address[:4].lower() == "cid:":
        return files.get(address[4:]) or files.get(unquote(address[4:]))
    if _IN_MAIL.match(address) or (remote and _REMOTE.match(address)):
        return address
    return None
