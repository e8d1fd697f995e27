"""Works on the HTML around the tags of a template: makes a text of it, and inlines its CSS.

Both happen once, when a template is saved. The tags are replaced by marks meanwhile, so that the HTML is
whole, and stand in the result where they stood.
"""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mailbbgun.core.errors import InvalidInput, Unavailable
from mailbbgun.template_language.tokens import tags
from mailbbgun.templates import plain_text

#: Bytes of HTML whose CSS can be inlined, and seconds that all the HTML of a version may take.
INLINED_SIZE, INLINING_SECONDS = 300_000, 10

_CHILD = Path(__file__).with_name("inlining.py")
#: Marks are private characters (Unicode §23.5), which mean nothing in HTML.
_MARK = re.compile("\ue000([0-9]+)\ue001")
_MARKS = re.compile("[\ue000\ue001]")
_LINE_OF_MARKS = re.compile("^((?:\ue000[0-9]+\ue001)+)\n+", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n{3,}")
_TAG_OR_MARK = re.compile("<!--|<style\\b|<[A-Za-z/]|\ue000[0-9]+\ue001", re.IGNORECASE)
_INSIDE = re.compile("[\"'>]|\ue000[0-9]+\ue001")


def text_from(html: str) -> str:
    """Return the template of a text that says what a template of HTML does.

    The template must have passed the check of its language.
    """
    marked, found = _marked(html)
    text = _LINE_OF_MARKS.sub(lambda line: _joined(line, found), plain_text.from_html(marked))
    return _BLANK_LINES.sub("\n\n", _MARK.sub(lambda mark: found[int(mark[1])], text))


def _joined(line: re.Match[str], found: Sequence[str]) -> str:
    """Return a line without its end if it has nothing but statements, which print nothing."""
    alone = all(found[int(number)].startswith("{%") for number in _MARK.findall(line[0]))
    return line[1] if alone else line[0]


def inlined(templates: Sequence[str]) -> list[str]:
    """Return templates of HTML with the rules of their ``<style>`` written into their elements.

    Rules that cannot be (``@media``, ``:hover``) stay in ``<style>``. Nothing is loaded. It is done in a child
    process, because HTML that is nested deep enough ends the process that inlines it. All templates share
    one child, and its limits. Raises :class:`InvalidInput`, and :class:`Unavailable` if the child cannot be started.
    """
    if not templates:
        return []
    if any(len(html.encode()) > INLINED_SIZE for html in templates):
        raise _refused(f"CSS is inlined in up to {INLINED_SIZE} bytes of HTML; inline it before you save the template.")
    all_marked = [_marked(html) for html in templates]
    results = _by_child([_named(marked) for marked, _ in all_marked])
    return [_with_tags(result, found) for result, (_, found) in zip(results, all_marked, strict=True)]


def _with_tags(result: str, found: Sequence[str]) -> str:
    """Put the tags of a template back in place of their names."""
    for number, tag in enumerate(found):
        attribute, comment = f'mbg-{number}-tag=""', f"<!--mbg-{number}-tag-->"
        for name in (attribute, comment, comment.replace("<", "&lt;").replace(">", "&gt;"), f"mbg-{number}-tag"):
            if name in result:
                result = result.replace(name, tag)
                break
        else:
            raise _refused(f"CSS cannot be inlined: {tag[:60]!r} stands where HTML takes no text.")
    return result


def _marked(html: str) -> tuple[str, Sequence[str]]:
    """Return HTML with a mark in place of each tag, and the tags."""
    html = _MARKS.sub("", html)
    pieces: list[str] = []
    found: list[str] = []
    place = 0
    for tag in tags(html):
        pieces += [html[place : tag.start], f"\ue000{len(found)}\ue001"]
        found.append(html[tag.start : tag.end])
        place = tag.end
    return "".join([*pieces, html[place:]]), found


def _named(marked: str) -> str:
    """Write each mark as HTML keeps it: as a comment between elements, and as a name inside of one."""
    pieces, place, inside = [], 0, False
    quote: str = ""
    while found := (_INSIDE if inside else _TAG_OR_MARK).search(marked, place):
        piece = found[0]
        pieces.append(marked[place : found.start()])
        place = found.end()
        if mark := _MARK.fullmatch(piece):
            pieces.append(_name(mark) if inside else f"<!--{_name(mark)}-->")
            continue
        pieces.append(piece)
        if not inside and piece == "<!--":
            end = marked.find("-->", place)
            end = len(marked) if end < 0 else end
            pieces.append(_MARK.sub(_name, marked[place:end]))
            place = end
        elif not inside:
            inside, quote = True, ""
        elif piece == ">":
            inside = bool(quote)
        elif not quote or piece == quote:
            quote = "" if quote else piece
    return "".join([*pieces, marked[place:]])


def _name(mark: re.Match[str]) -> str:
    return f"mbg-{mark[1]}-tag"


def _by_child(pages: Sequence[str]) -> list[str]:
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(_CHILD)],
            input=json.dumps(pages).encode(),
            capture_output=True,
            timeout=INLINING_SECONDS,
        )
    except OSError as error:
        raise Unavailable("CSS cannot be inlined now; try again, or save the template without inline_css.") from error
    except subprocess.TimeoutExpired:
        raise _refused("CSS cannot be inlined in time: there are too many rules or elements.") from None
    if done.returncode:
        raise _refused("CSS cannot be inlined: there are too many rules or elements, or they are nested too deeply.")
    results: list[str] = json.loads(done.stdout)
    return results


def _refused(why: str) -> InvalidInput:
    return InvalidInput("Some fields are not valid.", fields={"inline_css": [why]})
