"""Loads composed messages: what each is made of, by its id. Contents are kept in memory for a while.

The statements serve all tenants, so a caller must know that the message may be read.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Integer, bindparam, select

from mailbbgun.composing.compose import Composed, Own, compose
from mailbbgun.composing.contents import Content, Personal, of_row
from mailbbgun.database.compiled import CompiledStatement
from mailbbgun.database.db import Database
from mailbbgun.database.sql import among, id_rows
from mailbbgun.messages.models import CONTENTS, MESSAGES

#: Bytes of contents that one cache keeps, but for the one that was used last.
KEPT_BYTES = 16_000_000

_M = MESSAGES.c


class StoredMessage(NamedTuple):
    """A message as it is stored: its MIME, or what that is composed of. Neither: retention deleted it."""

    tenant_id: UUID
    raw: bytes | None
    content: Content | None
    own: Own

    def composed(self) -> Composed | None:
        """Return the message in pieces; None if retention deleted it. Raises :class:`InvalidInput`."""
        if self.raw is not None:
            return Composed([self.raw])
        return compose(self.content, self.own) if self.content else None


class Contents:
    """Loads contents, and keeps those that were used last. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._kept: OrderedDict[UUID, tuple[Content, int]] = OrderedDict()
        self._bytes = 0

    def of(self, ids: Iterable[UUID]) -> dict[UUID, Content]:
        """Return contents by their ids. Those that do not exist are left out.

        Raises :class:`DatabaseUnavailable`.
        """
        found: dict[UUID, Content] = {}
        missing = []
        with self._lock:
            for one in set(ids):
                if kept := self._kept.get(one):
                    self._kept.move_to_end(one)
                    found[one] = kept[0]
                else:
                    missing.append(one)
        if missing:
            dialect = self._database.dialect
            given = {"contents": id_rows(dialect, missing)}
            for identifier, made_of in self._database.find(_contents(dialect), given):
                found[identifier], size = of_row(made_of)
                self._keep(identifier, found[identifier], size)
        return found

    def _keep(self, identifier: UUID, content: Content, size: int) -> None:
        with self._lock:
            if identifier not in self._kept:
                self._kept[identifier] = content, size
                self._bytes += size
            while self._bytes > KEPT_BYTES and len(self._kept) > 1:
                _, (_, gone) = self._kept.popitem(last=False)
                self._bytes -= gone

    def messages(self, message_ids: Sequence[UUID], most: int | None = None) -> dict[UUID, StoredMessage]:
        """Return messages by their ids, or only those of at most so many bytes.

        Raises :class:`DatabaseUnavailable`.
        """
        dialect = self._database.dialect
        given = {"messages": id_rows(dialect, message_ids), "most": most}
        statement = _messages(dialect, limited=most is not None)
        rows = self._database.find(statement, given)
        contents = self.of(content_id for *_, content_id in rows if content_id is not None)
        return {
            own[0]: StoredMessage(
                tenant_id,
                raw,
                contents.get(content_id),
                Own(*own, Personal.of_row(personal or {})),  # type: ignore[call-arg]  # four values
            )
            for *own, tenant_id, personal, raw, content_id in rows
        }


@cache
def _contents(dialect: str) -> CompiledStatement:
    found = select(CONTENTS.c.id, CONTENTS.c.made_of)
    return CompiledStatement(found.where(among(dialect, CONTENTS.c.id, "contents")))


@cache
def _messages(dialect: str, *, limited: bool) -> CompiledStatement:
    own = (_M.id, _M.created_at, _M.message_id, _M.subject)
    found = select(*own, _M.tenant_id, _M.personal, _M.raw, _M.content_id)
    found = found.where(among(dialect, _M.id, "messages"))
    if limited:
        found = found.where(_M.size <= bindparam("most", type_=Integer))
    return CompiledStatement(found)
