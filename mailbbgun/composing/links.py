"""Finds the links of an HTML text and the end of its body, and leaves every other byte as it is. Pure.

No parser that we know tells where an attribute's value stands, and the standard library's ends
comments elsewhere than browsers do. So this is the part of the HTML standard's tokenizer that tells
tags from comments, scripts and texts (https://html.spec.whatwg.org/multipage/parsing.html §13.2.5).
"""

import re
from collections.abc import Callable, Iterator
from html.entities import html5
from typing import NamedTuple

_BLANK = r"[\t\n\f\r ]"
_VALUE = r"""(?:"[^"]*+(?:"|\Z)|'[^']*+(?:'|\Z)|[^\t\n\f\r "'>][^\t\n\f\r >]*+)"""
_ATTRIBUTE = rf"[^\t\n\f\r />][^\t\n\f\r />=]*+(?:{_BLANK}*+={_BLANK}*+{_VALUE}?+)?+"
# Possessive throughout, and each alternative may end with the text, so that no part is looked at twice.
_TOKEN = re.compile(
    rf"""<(?:
        !--(?:-?>|.*?(?:--!?>|\Z))                                                # a comment
        | (?:[!?]|/[^a-zA-Z>])[^>]*+(?:>|\Z)                                      # what browsers take for a comment
        | (?P<end>/)?(?P<name>[a-zA-Z][^\t\n\f\r />]*+)
          (?P<attributes>(?:[\t\n\f\r /]++|{_ATTRIBUTE})*+)(?P<whole>>|\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)
_PART = re.compile(
    r"""(?P<name>[^\t\n\f\r />][^\t\n\f\r />=]*+)
    (?:[\t\n\f\r ]*+=[\t\n\f\r ]*+
    (?:"(?P<double>[^"]*+)"|'(?P<single>[^']*+)'|(?P<bare>[^\t\n\f\r "'>][^\t\n\f\r >]*+))?+)?+""",
    re.VERBOSE,
)
#: Elements whose content has no tags but their own end.
_RAW = frozenset({"script", "style", "xmp", "iframe", "noembed", "noframes", "textarea", "title"})
_CHARACTER = re.compile(r"&(?:#(?:[xX]([0-9a-fA-F]{1,6});?|([0-9]{1,7});?)|([a-zA-Z][a-zA-Z0-9]*)(;|(?![a-zA-Z0-9=])))")
_LINKING = frozenset({"a", "area"})


class HTMLTag(NamedTuple):
    """A tag in an HTML text: its name in lower case, and where it stands. ``closes``: it is an end tag."""

    name: str
    closes: bool
    start: int
    attributes: str
    #: Where the attributes begin.
    at: int


class HTMLLink(NamedTuple):
    """The value of a link's ``href``: what it says, where it stands, and whether ``data-track`` says no."""

    target: str
    start: int
    end: int
    untracked: bool


def tags(html: str) -> Iterator[HTMLTag]:
    """Yield the tags of a text that are neither in comments nor in scripts, styles and the like."""
    place = 0
    while found := _TOKEN.search(html, place):
        place = found.end()
        if (name := found["name"]) is None:
            continue
        if not found["whole"]:  # the text ends within it, so it is none
            return
        name, closes = name.lower(), found["end"] is not None
        yield HTMLTag(name, closes, found.start(), found["attributes"], found.start("attributes"))
        if closes:
            continue
        if name == "plaintext":
            return
        if name in _RAW:
            end = re.compile(rf"</{name}(?=[\t\n\f\r />])", re.IGNORECASE).search(html, place)
            if end is None:
                return
            place = end.start()


def rewritten(html: str, replacement: Callable[[HTMLLink], str | None], at_the_end: str = "") -> str:
    """Return a text with the links' targets replaced, and ``at_the_end`` added at the end of its body.

    ``replacement`` returns an ASCII URL without quotes, blanks, ``<``, ``>`` and ``&``, or None: the link
    stays.
    """
    pieces, place, body, document = [], 0, None, None
    for tag in tags(html):
        if tag.closes:
            body, document = (tag.start, document) if tag.name == "body" else (body, document)
            document = tag.start if tag.name == "html" else document
        elif tag.name in _LINKING and (link := _link(tag)) and (new := replacement(link)) is not None:
            pieces += [html[place : link.start], new]
            place = link.end
    if at_the_end:
        # A link behind the end of the body is replaced, too: then the end is after it.
        end = next((one for one in (body, document) if one is not None and one >= place), len(html))
        pieces += [html[place:end], at_the_end]
        place = end
    return "".join([*pieces, html[place:]])


def _link(tag: HTMLTag) -> HTMLLink | None:
    """Return the link of a tag; None if it has no ``href`` with a value."""
    found, untracked, seen = None, False, set()
    for part in _PART.finditer(tag.attributes):
        name = part["name"].lower()
        if name in seen:
            continue  # of two attributes of one name the first counts (§13.2.5.33)
        seen.add(name)
        group = next((one for one in ("double", "single", "bare") if part[one] is not None), None)
        if group is None:
            continue
        if name == "href":
            found = group, part
        elif name == "data-track":
            untracked = decoded(part[group]).strip().lower() in ("no", "false", "off", "0")
    if found is None:
        return None
    group, part = found
    return HTMLLink(decoded(part[group]), tag.at + part.start(group), tag.at + part.end(group), untracked)


def decoded(value: str) -> str:
    """Return what an attribute's value says (§13.2.5.72): in ``?a=1&copy=2`` nothing is a copyright sign."""
    return _CHARACTER.sub(_character, value) if "&" in value else value


def _character(found: re.Match[str]) -> str:
    hexadecimal, decimal, name, end = found.groups()
    if name is not None:
        return html5.get(f"{name};" if end else name, found[0])
    code = int(hexadecimal, 16) if hexadecimal else int(decimal)
    return chr(code) if 0 < code < 0x110000 and not 0xD800 <= code < 0xE000 else "\ufffd"
