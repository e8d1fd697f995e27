"""Words of a text, stored so that they can be searched on both databases.

The words are found here, not by a database: PostgreSQL's own parser knows no Japanese, its trigrams
are an extension and depend on the locale, and SQLite may lack FTS5. PostgreSQL has an index on them;
SQLite looks through the words of the texts that other conditions leave.
"""

import re
import unicodedata
from collections.abc import Collection, Iterator
from itertools import islice, pairwise
from typing import Any, cast

from sqlalchemy import ColumnElement, Dialect, Text, and_, literal
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import TSQUERY, TSVECTOR
from sqlalchemy.types import TypeDecorator, TypeEngine

from mailbbgun.database.texts import contains

#: Different words of a text that are kept, at most, and characters of each.
MOST, LONGEST = 8_000, 40

# Letters and digits of any script, with the marks that belong to them: those of Hebrew, of Arabic and
# of India's scripts are no letters by themselves.
_MARKS = "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0963\u0966-\u0dff\u20d0-\u20ff"
# Scripts without blanks between words: Thai, Lao, Burmese and Khmer; kana, and Chinese characters.
_UNSPACED = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ecd\u1000-\u109f\u1780-\u17dd"
    "\u3005-\u3007\u3041-\u309f\u30a1-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
# Soft hyphens and joiners stand within words.
_UNSEEN = re.compile("[\u00ad\u200c\u200d\u2060\ufeff]")
_RUN = re.compile(rf"[\w{_MARKS}]+")
_PIECE = re.compile(rf"([{_UNSPACED}]+)|[^{_UNSPACED}]+")
# Characters without a blank that are normalized at once: NFKC sorts the marks behind a letter, in a time that is the
# square of their number. A longer text is cut at blanks, too, which take part in no composed character.
_AT_ONCE = 256
_CUT = re.compile(rf"\s+|\S{{1,{_AT_ONCE}}}")


class Words(TypeDecorator[Collection[str]]):
    """A column of the words that :func:`words_of` returns. It is only written, and searched."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type of the column."""
        return dialect.type_descriptor(TSVECTOR() if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: Collection[str] | None, dialect: Dialect) -> str | None:
        """Return the words as the database takes them. They have no quotes and no backslashes."""
        if value is None:
            return None
        if dialect.name == "postgresql":
            return " ".join(f"'{one}'" for one in value)
        return f" {' '.join(value)} "


def words_of(text: str) -> list[str]:
    """Return the different words of a text, in one case and one form (NFKC), at most :data:`MOST`.

    Of scripts without blanks they are all pairs of neighbours, and the last character of each run.
    """
    different = dict.fromkeys(_runs(text))
    found = dict.fromkeys(one for run in different for one, _ in _parts(run))
    return list(islice(found, MOST))


def searched(text: str) -> list[str]:
    """Return the words of a text to search for: the last character of a run is in a pair already."""
    return [one for run in _runs(text) for one, ends_a_pair in _parts(run) if not ends_a_pair]


def have_words(column: Any, wanted: Collection[str], dialect: str) -> ColumnElement[bool]:
    """Return the condition that a column has, for each word that is wanted, one that begins with it."""
    if dialect == "postgresql":
        query = " & ".join(f"'{one}':*" for one in wanted)
        return cast(ColumnElement[bool], column.op("@@")(sql_cast(literal(query), TSQUERY)))
    return and_(*(contains(column, literal(f" {one}")) for one in wanted))


def _runs(text: str) -> list[str]:
    """Return what stands between blanks and punctuation, in the form that words have."""
    if text.isascii():
        normal = text.lower()
    else:
        long = max(map(len, text.split()), default=0) > _AT_ONCE
        normal = _UNSEEN.sub("", "".join(map(_normalized, _CUT.findall(text) if long else [text])))
    return _RUN.findall(normal.replace("_", " "))


def _normalized(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _parts(run: str) -> Iterator[tuple[str, bool]]:
    """Yield the words in a run, and whether each is the end of a pair before it."""
    if run.isascii():
        yield run[:LONGEST], False
        return
    for match in _PIECE.finditer(run):
        if match[1] is None:
            yield match[0][:LONGEST], False
            continue
        yield from ((one, False) for one in map("".join, pairwise(match[1])))
        yield match[1][-1], len(match[1]) > 1
