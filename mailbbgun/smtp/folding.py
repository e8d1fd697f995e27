"""Header fields as octets in ASCII: encoded words (RFC 2047) and folding (RFC 5322 §2.2.3). Pure.

The same text always becomes the same octets: retries stay byte-identical.
"""

from binascii import b2a_base64
from collections.abc import Iterable, Iterator

#: Characters of a line without its CRLF: it should have no more (RFC 5322 §2.1.1).
LINE = 78

#: Characters of an encoded word: it must have no more (RFC 2047 §2).
LONGEST_ENCODED_WORD = 75

#: Characters of an encoded word around its base64.
_AROUND = len("=?utf-8?b??=")

#: Octets of text that the longest encoded word holds: base64 makes 4 characters of 3 octets.
MOST_OCTETS = (LONGEST_ENCODED_WORD - _AROUND) // 4 * 3

#: Octets of text that an encoded word holds at least, however little room there is.
_LEAST_OCTETS = 9


def octets_beside(name: str) -> int:
    """Return how many octets of text an encoded word may hold to fit on the first line of a field
    of this name.
    """
    return max(_LEAST_OCTETS, (min(LONGEST_ENCODED_WORD, LINE - len(name) - 4) - _AROUND) // 4 * 3)


def encoded_words(text: str, octets: int = MOST_OCTETS) -> Iterator[str]:
    """Yield the encoded words of a text, at least one, cut between characters, each of at most so
    many octets of it.
    """
    chunk = b""
    for character in text:
        encoded = character.encode()
        if len(chunk) + len(encoded) > octets:
            yield f"=?utf-8?b?{b2a_base64(chunk, newline=False).decode()}?="
            chunk = b""
        chunk += encoded
    yield f"=?utf-8?b?{b2a_base64(chunk, newline=False).decode()}?="


def folded_lines(first: str, words: Iterable[str]) -> list[str]:
    """Return lines without their ends: ``first``, and words with a space before each.

    A word that would pass column :data:`LINE` begins a line.
    """
    lines, line = [], first
    for word in words:
        if len(line) + 1 + len(word) > LINE:
            lines.append(line)
            line = ""
        line += f" {word}"
    lines.append(line)
    return lines
