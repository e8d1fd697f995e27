"""Makes a text for people from HTML. Pure, and linear in its size whatever the HTML is.

Why not a library: html2text is under the GPL, and took over 10 seconds for 200 KB of ``<!--``; inscriptis brings
lxml and requests, took 1.4 ms for a small mail, and made 60 MB of one table of 100 KB.
"""

import re
from collections.abc import Iterator
from html import unescape

#: Elements that begin on a line of their own, and those with an empty line around them.
_BLOCKS = ("address", "article", "aside", "div", "figure", "footer", "form", "header", "main", "nav", "section")
_LINES = frozenset((*_BLOCKS, "br", "dd", "dl", "dt", "hr", "li", "tr"))
_PARAGRAPHS = frozenset(("blockquote", "body", "h1", "h2", "h3", "h4", "h5", "h6", "ol", "p", "pre", "table", "ul"))
#: Elements whose content nobody sees.
_UNSEEN = frozenset(("head", "noscript", "script", "style", "template", "title"))
_CELLS = frozenset(("td", "th"))
_HIDDEN = re.compile(r"display\s*:\s*none|mso-hide\s*:\s*all", re.IGNORECASE)
_NAME = re.compile(r"</?([A-Za-z][A-Za-z0-9:-]*)")
_QUOTE_OR_END = re.compile("[\"'>]")
_SPACE = re.compile(r"[ \t\r\n\f]+")
_ATTRIBUTE = re.compile(r"""\s(href|alt|style)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""", re.IGNORECASE)


def from_html(html: str) -> str:
    """Return what a reader sees of HTML as plain text, with the address behind each link."""
    return _Writer().written(html)


class _Writer:
    def __init__(self) -> None:
        self._parts: list[str] = []
        self._breaks = 2  # line breaks at the end of what is written
        self._blank = False  # whether a blank is due before the next word
        self._address = ""  # of the open link
        self._before = 0  # how many parts there were when it was opened
        self._unseen = ""  # the element whose content is skipped
        self._depth = 0  # how many elements of that name are open

    def written(self, html: str) -> str:
        for tag, piece in pieces(html):
            if tag:
                self._tag(tag, piece)
            elif not self._unseen:
                self._text(unescape(piece))
        return "".join(self._parts).strip("\n") + "\n" if self._parts else ""

    def _tag(self, name: str, piece: str) -> None:
        closes = piece.startswith("</")
        if self._unseen:
            if name == self._unseen:
                self._depth += -1 if closes else 1
                if not self._depth:
                    self._unseen = ""
            return
        attributes = {} if closes else _attributes(piece)
        if not closes and (name in _UNSEEN or (name not in _VOID and _HIDDEN.search(attributes.get("style", "")))):
            self._unseen, self._depth = name, 1
        elif name in _PARAGRAPHS:
            self._break(2)
        elif name in _LINES:
            self._line(name, closes)
        elif name in _CELLS and not closes and not self._breaks:
            self._parts.append("  ")
            self._blank = False
        elif name == "a":
            self._link(closes, attributes.get("href", ""))
        elif name == "img" and attributes.get("alt"):
            self._text(attributes["alt"])

    def _line(self, name: str, closes: bool) -> None:
        if name == "br" or (name == "hr" and not closes):
            self._parts.append("\n" if self._breaks < 2 else "")
            self._breaks = min(self._breaks + 1, 2)
            self._blank = False
        else:
            self._break(1)
        if name == "li" and not closes:
            self._text("- ")

    def _link(self, closes: bool, address: str) -> None:
        if not closes:
            self._address, self._before = address, len(self._parts)
            return
        address, self._address = self._address, ""
        text = self._parts[self._before : self._before + 4]
        if address and address[0] != "#" and "".join(text).strip() not in (address, address.removeprefix("mailto:")):
            self._text(f" ({address})")

    def _text(self, text: str) -> None:
        words = _SPACE.sub(" ", text)
        if words == " " or not words:
            self._blank |= bool(words) and not self._breaks
            return
        if (self._blank or words[0] == " ") and not self._breaks and self._parts[-1][-1:] != " ":
            self._parts.append(" ")
        self._parts.append(words.strip(" ") + (" " if words == "- " else ""))
        self._breaks, self._blank = 0, words[-1] == " "

    def _break(self, lines: int) -> None:
        if self._breaks < lines:
            self._parts.append("\n" * (lines - self._breaks))
            self._breaks = lines
        self._blank = False


_VOID = frozenset(("br", "hr", "img", "input", "meta", "link"))


def _attributes(piece: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, double, single, bare in _ATTRIBUTE.findall(piece[:20_000]):
        found.setdefault(name.lower(), unescape(double or single or bare))
    return found


def pieces(html: str) -> Iterator[tuple[str, str]]:
    """Yield each tag with its name in lower case, and each text between them with the name ""."""
    place = text = 0
    lacking: set[str] = set()  # quotes that do not come again, so that nobody looks for them twice
    while (start := html.find("<", place)) >= 0:
        if html.startswith("<!--", start):
            end = html.find("-->", start + 4)
            end = len(html) if end < 0 else end + 3
            name = "!"
        elif found := _NAME.match(html, start):
            name, end = found[1].lower(), _end_of_tag(html, found.end(), lacking)
        elif html.startswith(("<!", "<?"), start):
            name, end = "!", html.find(">", start) + 1 or len(html)
        else:
            place = start + 1
            continue
        yield "", html[text:start]
        yield name, html[start:end]
        place = text = end
    yield "", html[text:]


def _end_of_tag(html: str, place: int, lacking: set[str]) -> int:
    while found := _QUOTE_OR_END.search(html, place):
        if found[0] == ">":
            return found.end()
        place = found.end()
        if found[0] not in lacking:
            end = html.find(found[0], place)
            if end < 0:
                lacking.add(found[0])
            else:
                place = end + 1
    return len(html)
