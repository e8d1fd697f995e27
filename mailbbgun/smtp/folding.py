"""Writes header fields in ASCII: encoded words (RFC 2047) and folding (RFC 5322 §2.2.3). Pure.

The same text always becomes the same octets, so that retries are byte-identical.
"""

from binascii import b2a_base64
from collections.abc import Iterable, Iterator

#: Characters that a line should not exceed, without its CRLF (RFC 5322 §2.1.1).
LINE = 78

#: Characters that an encoded word must not exceed (RFC 2047 §2).
LONGEST_ENCODED_WORD = 75

#: Characters of an encoded word that stand around its base64 text.
_AROUND = len("=?utf-8?b??=")

#: Octets of text that fit into the longest encoded word: base64 turns 3 octets into 4 characters.
MOST_OCTETS = (LONGEST_ENCODED_WORD - _AROUND) // 4 * 3

#: Octets of text that an encoded word may hold even beside a very long field name.
_LEAST_OCTETS = 9


def octets_beside(name: str) -> int:
    """Return how many octets of text fit into an encoded word on the first line of this field."""
    return max(_LEAST_OCTETS, (min(LONGEST_ENCODED_WORD, LINE - len(name) - 4) - _AROUND) // 4 * 3)


def encoded_words(text: str, octets: int = MOST_OCTETS) -> Iterator[str]:
    """Yield the encoded words of a text (at least one), each for at most ``octets`` octets of it.

    A character is never split between two words.
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
    """Return the lines, without line ends, of ``first`` followed by the words.

    A space stands before each word. A word that would pass column :data:`LINE` begins a new line.
    """
    lines, line = [], first
    for word in words:
        if len(line) + 1 + len(word) > LINE:
            lines.append(line)
            line = ""
        line += f" {word}"
    lines.append(line)
    return lines
