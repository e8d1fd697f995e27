"""Finds the texts of a template for accept, mostly without asking the database."""

import time
from threading import Lock
from uuid import UUID

from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import InvalidInput, NotFound
from mailbbgun.database.db import Database
from mailbbgun.templates import locales, versions
from mailbbgun.templates.engine import Sources

#: Seconds for which found texts are used again. So every process uses a change within a second.
FRESH_SECONDS = 1.0
#: Texts that a process keeps.
MOST_KEPT = 1_000

_Key = tuple[UUID, bool, str, str | None]


class Templates:
    """The templates of all tenants, for accept. Thread-safe."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._kept: dict[_Key, tuple[float, Sources]] = {}
        self._lock = Lock()

    def resolve(self, who: Caller, called: str, locale: str | None = None) -> Sources:
        """Return the active texts of the template of that id or name, for readers of a locale.

        A test key uses templates of test keys, another key uses those of other keys. Raises
        :class:`InvalidInput` if there is no such template, :class:`DatabaseUnavailable`.
        """
        key = (who.tenant_id, who.tests_only, called, locale)
        kept = self._kept.get(key)
        if kept is not None and kept[0] > time.monotonic():
            return kept[1]
        until = time.monotonic() + FRESH_SECONDS
        sources = self._read(who, called, locale)
        with self._lock:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[key] = (until, sources)
        return sources

    def _read(self, who: Caller, called: str, locale: str | None) -> Sources:
        wanted = _normal(locale)
        try:
            with self._db.read(who.tenant_id, tests_only=who.tests_only) as session:
                template = versions.found(session, who, called)
                if template.test != who.tests_only:
                    raise NotFound("of test keys")
                version = versions.version(session, who, template, template.active)
        except NotFound:
            why = f"There is no template {called[:64]!r}. `GET /templates` lists yours."
            raise InvalidInput("Some fields are not valid.", fields={"template": [why]}) from None
        found = locales.chosen(wanted, version.texts)
        return versions.sources_of(version.texts[found], found, version.id)


def _normal(locale: str | None) -> str | None:
    try:
        return locale and locales.normal(locale)
    except ValueError as error:
        raise InvalidInput("Some fields are not valid.", fields={"locale": [str(error)]}) from None
