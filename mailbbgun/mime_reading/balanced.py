"""HTML of any kind becomes small, balanced HTML that costs a sanitiser no more than its size. Pure.

Parsers of HTML take time that grows with the square of how deep elements are nested, and formatting
that is never closed is opened anew in each paragraph: a megabyte could cost minutes and gigabytes.
Here the known elements are written again in one pass: nested to a bounded depth, each closed, and with
known attributes only. All else is text, or gone. This makes nothing safe: ``safe_html`` does.
"""

import re
from html import escape, unescape

from mailbbgun.mime_reading.mail import Problems

#: Elements within elements, formatting within formatting, and elements in all, at most.
DEPTH, FORMATS, ELEMENTS = 150, 20, 30_000
#: Signs in text that are written as character references, at most: for a parser, each costs the text before it.
SIGNS = 20_000
_WITHOUT_SIGNS = str.maketrans("", "", "<>&")
#: Characters of an attribute's value, at most; those of images in the mail itself may be longer.
_VALUE, _IMAGE = 4_000, 200_000

_TOO_LARGE = "The HTML is too large or too deep: it is shown without some of its markup."

_FORMATTING = {"a", "b", "big", "code", "em", "font", "i", "s", "small", "strike", "strong", "tt", "u"}
_OTHERS = {
    "abbr", "address", "blockquote", "caption", "center", "cite", "dd", "del", "dfn", "div", "dl", "dt", "figcaption",
    "figure", "h1", "h2", "h3", "h4", "h5", "h6", "ins", "kbd", "li", "mark", "ol", "p", "pre", "q", "samp", "span",
    "sub", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul", "var",
    "article", "section", "header", "footer", "main", "nav", "aside",
}  # fmt: skip
_EMPTY = {"br", "col", "hr", "img", "wbr"}
#: The elements that stay.
KEPT = _FORMATTING | _OTHERS | _EMPTY
#: Elements whose content is no text for people.
_DROPPED = {"head", "iframe", "math", "noembed", "noframes", "object", "script", "style", "svg", "template", "textarea",
            "title", "xml", "xmp"}  # fmt: skip
#: The attributes that stay.
ATTRIBUTES = {
    "align", "alt", "bgcolor", "border", "cellpadding", "cellspacing", "color", "colspan", "dir", "face", "height",
    "href", "lang", "rowspan", "size", "src", "start", "style", "title", "type", "valign", "width",
}  # fmt: skip
# An element that begins ends one of these that is open, up to one that bounds them.
_ENDS = {
    "a": {"a"}, "p": {"p"}, "li": {"li"}, "dt": {"dt", "dd"}, "dd": {"dt", "dd"}, "td": {"td", "th"},
    "th": {"td", "th"}, "tr": {"tr"}, "tbody": {"tbody", "thead", "tfoot"}, "thead": {"tbody", "thead", "tfoot"},
    "tfoot": {"tbody", "thead", "tfoot"},
}  # fmt: skip
_BOUNDS = {"table", "td", "th", "ul", "ol", "dl", "caption", "div", "blockquote", "center"}
_IN_TABLE = {"td": {"table", "tr"}, "th": {"table", "tr"}, "tr": {"table"}}

# No < is within a tag: each character is looked at once, whatever quotes are left open.
_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9:-]{0,30})((?>[^<>\"']++|\"[^\"<]*+\"|'[^'<]*+'|[\"'])*+)(>?)")
_ATTRIBUTE = re.compile(r"([A-Za-z-]{1,20})\s*+=\s*+(?:\"([^\"]*+)\"|'([^']*+)'|([^\s\"'<>]++))")
_NEXT = re.compile(r"<(?=[A-Za-z/!?])")


def balanced(html: str, problems: Problems) -> str:
    """Return HTML in which each element is known and closed."""
    writing = _Writing(problems)
    at = 0
    while found := _NEXT.search(html, at):
        writing.text(html[at : found.start()])
        at = _after_markup(html, found.start(), writing)
    writing.text(html[at:])
    writing.close(0)
    return "".join(writing.done)


def _after_markup(html: str, at: int, writing: "_Writing") -> int:
    """Write what begins with < here, and return where it ends."""
    if html.startswith("<!--", at):
        end = html.find("-->", at + 4)
        return len(html) if end < 0 else end + 3
    tag = _TAG.match(html, at)
    if tag is None:  # <!DOCTYPE>, <?xml ?>, <![endif]>, </>
        end = html.find(">", at)
        return len(html) if end < 0 else end + 1
    closes, name = bool(tag[1]), tag[2].lower()
    if name in _DROPPED:
        return tag.end() if closes or tag[3].endswith("/") else _after_dropped(html, tag.end(), name)
    if closes:
        writing.end(name)
    elif name in KEPT:
        writing.begin(name, tag[3])
    elif name == "body":
        writing.text(" ")
    return tag.end()


def _after_dropped(html: str, at: int, name: str) -> int:
    """Return where an element ends whose content is dropped. A head ends with the body, at the latest."""
    ends = r"</head|<body" if name == "head" else f"</{re.escape(name)}"
    found = re.compile(rf"(?:{ends})(?![A-Za-z0-9])", re.IGNORECASE).search(html, at)
    if found is None:
        return len(html)
    if found[0].lower() == "<body":
        return found.start()
    end = html.find(">", found.end())
    return len(html) if end < 0 else end + 1


class _Writing:
    """What was written, and which elements are open."""

    def __init__(self, problems: Problems) -> None:
        self.done: list[str] = []
        self._open: list[str] = []
        self._formats = 0
        self._left = ELEMENTS
        self._signs = SIGNS
        self._problems = problems

    def text(self, text: str) -> None:
        """Write text, in which a stray < or & is no markup."""
        plain = unescape(text)
        self._signs -= sum(map(plain.count, "<>&"))
        if self._signs < 0:
            self._problems.tell(_TOO_LARGE)
            plain = plain.translate(_WITHOUT_SIGNS)
        self.done.append(escape(plain, quote=False))

    def begin(self, name: str, attributes: str) -> None:
        """Write the begin of an element, unless there are too many."""
        self._end_before(name)
        needs = _IN_TABLE.get(name)
        if needs and (not self._open or not needs & set(self._open[-3:])):
            return  # a cell without a table
        formatting = name in _FORMATTING
        too_deep = name not in _EMPTY and (len(self._open) >= DEPTH or (formatting and self._formats >= FORMATS))
        if too_deep or self._left <= 0:
            self._problems.tell(_TOO_LARGE)
            return
        self._left -= 1
        self.done.append(f"<{name}{_attributes(name, attributes)}>")
        if name not in _EMPTY:
            self._open.append(name)
            self._formats += formatting

    def end(self, name: str) -> None:
        """Write the end of an element that is open, and of those within it."""
        if name in self._open:
            at = len(self._open) - 1 - self._open[::-1].index(name)
            # What is not about tables ends nothing outside its cell.
            if name in _BOUNDS | _IN_TABLE.keys() or not {"td", "th"} & set(self._open[at:]):
                self.close(at)
        elif name in {"br", "p"}:
            self.done.append("<br>")

    def close(self, at: int) -> None:
        """Write the ends of all open elements from a number on, innermost first."""
        while len(self._open) > at:
            name = self._open.pop()
            self._formats -= name in _FORMATTING
            self.done.append(f"</{name}>")

    def _end_before(self, name: str) -> None:
        """End what cannot go on when an element begins."""
        ends = _ENDS.get(name, set())
        for at in range(len(self._open) - 1, max(-1, len(self._open) - 31), -1):
            if self._open[at] in ends:
                return self.close(at)
            if not ends or (self._open[at] in _BOUNDS and not (name in _IN_TABLE and self._open[at] != "table")):
                return None
        return None


def _attributes(name: str, given: str) -> str:
    done: dict[str, str] = {}
    for match in _ATTRIBUTE.finditer(given):
        key = match[1].lower()
        if key in ATTRIBUTES and key not in done:
            value = unescape(match[2] or match[3] or match[4] or "")
            most = _IMAGE if name == "img" and key == "src" else _VALUE
            if len(value) <= most:
                done[key] = value
    return "".join(f' {key}="{escape(value)}"' for key, value in done.items())
