"""Locales of templates: their names, and which variant of a template a reader gets. Pure.

A locale is a language tag (RFC 5646 §2.1) such as ``ja``, ``pt-BR`` or ``zh-Hant-TW``.
"""

import re
from collections.abc import Iterable, Iterator

#: The locale of the texts that are for everybody without a variant of their own.
DEFAULT = ""
_TAG = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8}){0,4}")


def normal(locale: str) -> str:
    """Return a locale in its usual spelling (RFC 5646 §2.1.1): ``ZH_hant_tw`` becomes ``zh-Hant-TW``.

    Raises ``ValueError`` for what is no language tag.
    """
    tag = locale.replace("_", "-")
    if not _TAG.fullmatch(tag):
        raise ValueError(f"{locale[:40]!r} is not a language tag such as ja, pt-BR or zh-Hant-TW.")
    language, *subtags = tag.split("-")
    return "-".join([language.lower(), *map(_spelled, subtags)])


def _spelled(subtag: str) -> str:
    if len(subtag) == 2:
        return subtag.upper()
    return subtag.title() if len(subtag) == 4 and subtag.isalpha() else subtag.lower()


def chosen(wanted: str | None, there: Iterable[str]) -> str:
    """Return the locale of the variant for a reader: ``ja-JP``, else ``ja``, else the default (RFC 4647 §3.4)."""
    known = set(there)
    return next((one for one in _shorter(wanted or "") if one in known), DEFAULT)


def _shorter(locale: str) -> Iterator[str]:
    while locale:
        yield locale
        locale = locale.rpartition("-")[0]
