"""SQL expressions about texts, for the filters of lists: the same on both databases.

They give the domain of an address, the address in a From, or whether a subject has a part.
"""

from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import String
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import NullType, TypeEngine


class domain_of(FunctionElement[str]):
    """The domain of an address: the text after its last @. An index may use it."""

    type = String()
    inherit_cache = True
    name = "domain_of"


class mailbox_in(FunctionElement[str]):
    """The address in ``ann@example.com`` or ``Ann Lee <ann@example.com>``. An index may use it."""

    type = String()
    inherit_cache = True
    name = "mailbox_in"


def _after_last(character: str, text: str, dialect: str) -> str:
    """Return SQL for the text after its last ``character``, or the whole text if it has none."""
    if dialect == "postgresql":
        return f"reverse(split_part(reverse({text}), '{character}', 1))"
    # rtrim removes all characters of a set from the end. The set is every character of the text but
    # this one.
    return f"substr({text}, length(rtrim({text}, replace({text}, '{character}', ''))) + 1)"


@compiles(domain_of)
def _domain_of(element: domain_of, compiler: SQLCompiler, **kw: Any) -> str:
    return _after_last("@", compiler.process(element.clauses, **kw), compiler.dialect.name)


@compiles(mailbox_in)
def _mailbox_in(element: mailbox_in, compiler: SQLCompiler, **kw: Any) -> str:
    return f"rtrim({_after_last('<', compiler.process(element.clauses, **kw), compiler.dialect.name)}, '>')"


class message_id_is_given(FunctionElement[bool]):
    """``message_id_is_given(message_id, id)``: whether a client gave this Message-ID.

    Ours begin with the message's id.
    """

    # A Boolean would be compared with 1 on SQLite, which then would not use the index.
    type: TypeEngine[Any] = NullType()
    inherit_cache = True
    name = "message_id_is_given"


@compiles(message_id_is_given)
def _message_id_is_given(element: message_id_is_given, compiler: SQLCompiler, **kw: Any) -> str:
    message_id, identifier = (compiler.process(one, **kw) for one in element.clauses)
    if compiler.dialect.name == "postgresql":
        return f"(substr({message_id}, 2, 36) <> {identifier}::text)"
    return f"(replace(substr({message_id}, 2, 36), '-', '') <> {identifier})"


class contains(FunctionElement[bool]):
    """``contains(text, part)``: whether a text has exactly this part.

    It has no patterns. For LIKE, GLOB and ~ somebody could write a pattern that takes very long.
    """

    type: TypeEngine[Any] = NullType()
    inherit_cache = True
    name = "contains"


@compiles(contains, "postgresql")
def _contains_postgresql(element: contains, compiler: SQLCompiler, **kw: Any) -> str:
    return f"(strpos({compiler.process(element.clauses, **kw)}) > 0)"


@compiles(contains, "sqlite")
def _contains_sqlite(element: contains, compiler: SQLCompiler, **kw: Any) -> str:
    return f"(instr({compiler.process(element.clauses, **kw)}) > 0)"


class has_part(FunctionElement[bool]):
    """``has_part(column, regex, folded)``: whether a text has a part, in any case.

    PostgreSQL uses the regular expression, SQLite the part as :func:`folded` returns it.
    """

    type: TypeEngine[Any] = NullType()
    inherit_cache = True
    name = "has_part"


@compiles(has_part, "postgresql")
def _has_part_postgresql(element: has_part, compiler: SQLCompiler, **kw: Any) -> str:
    column, regex, _ = element.clauses
    return f"({compiler.process(column, **kw)} ~ {compiler.process(regex, **kw)})"


@compiles(has_part, "sqlite")
def _has_part_sqlite(element: has_part, compiler: SQLCompiler, **kw: Any) -> str:
    column, _, part = element.clauses
    return f"{HAS_FOLDED}({compiler.process(column, **kw)}, {compiler.process(part, **kw)})"


#: The name of :func:`has_folded` in SQLite, whose own functions know only the letters a to z.
HAS_FOLDED = "mailbbgun_has_folded"


def has_folded(text: str, part: str) -> bool:
    """Return whether a text has a part in any case. The part must be :func:`folded` already."""
    return part in folded(text)


def folded(text: str) -> str:
    """Return a text in which all cases of a letter are the same letter.

    This is simple case folding: a letter never becomes two, so ß does not become ss.
    """
    found = text.casefold()
    return found if len(found) == len(text) else text.translate(_folds())


def cases_of(character: str) -> str:
    """Return all characters that :func:`folded` maps to the same one as this, and this one."""
    return _cases().get(folded(character), character)


@cache
def _folds() -> Mapping[int, str]:
    """Return the folded form of each letter that differs from it.

    All such letters are below U+20000.
    """
    forms = ((one, (one.casefold(), one.lower())) for one in map(chr, range(0x20000)))
    return {
        ord(one): form for one, two in forms if (form := next((each for each in two if len(each) == 1), one)) != one
    }


@cache
def _cases() -> Mapping[str, str]:
    """Return all cases of each letter, by its folded form."""
    found: dict[str, set[str]] = defaultdict(set)
    for code, form in _folds().items():
        found[form] |= {chr(code), form}
    return {form: "".join(sorted(cases)) for form, cases in found.items()}
