"""Contents are loaded once, and a bounded number of bytes of them is kept."""

import pytest

from mailbbgun.composing.contents import Content, StoredContent
from mailbbgun.composing.mime import Mailbox
from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.messages import loading
from mailbbgun.messages.loading import Contents
from tests.accept.conftest import services as services  # the fixture
from tests.messages.test_retention import add


class Counted:
    """A real database that counts the rows that it was asked for."""

    def __init__(self, database):
        self._database, self.dialect, self.found = database, database.dialect, 0

    def find(self, statement, values):
        rows = self._database.find(statement, values)
        self.found += len(rows)
        return rows


@pytest.fixture
def contents(services):
    """Ten contents in the database, whose texts compress well."""
    made = [
        StoredContent.of(DEFAULT_TENANT, Content(sender=Mailbox("", "a@example.com"), text=f"{number}" * 1000))
        for number in range(10)
    ]
    for one in made:
        add(services, 1, content=one)
    return made


def test_a_content_is_loaded_once_and_shared(services, contents):
    database = Counted(services.db)
    cache = Contents(database)
    ids = [one.id for one in contents]
    first = cache.of(ids)
    assert first == {one.id: one.content for one in contents}
    assert all(cache.of([one])[one] is first[one] for one in ids)
    assert database.found == 10


def test_what_is_kept_is_bounded_by_its_size_in_memory_not_in_the_database(services, contents, monkeypatch):
    monkeypatch.setattr(loading, "KEPT_BYTES", 3500)
    database = Counted(services.db)
    cache = Contents(database)
    for one in contents:
        cache.of([one.id])
    for one in contents[-3:]:
        cache.of([one.id])
    assert database.found == 10
    cache.of([contents[0].id])
    assert database.found == 11


def test_messages_of_more_than_so_many_bytes_are_left_out(services, contents):
    identifier = add(services, 1, content=contents[0])
    cache = Contents(services.db)
    assert [*cache.messages([identifier], 1)] == [identifier]  # its row says that it has one byte
    assert cache.messages([identifier], 0) == {}
    assert cache.messages([]) == {}
