"""Who writes to a file of SQLite does so in turn: threads of a process, and processes."""

import errno
import fcntl
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from mailbbgun.database import engines
from mailbbgun.database.db import Database
from mailbbgun.database.engines import WritersTurns
from tests.waiting import PATIENCE, bounded, wait_until


class Writers:
    """Threads that note the order of their turns."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self._threads: list[threading.Thread] = []

    def ask(self, turns: WritersTurns, name: str, *, first: bool = False) -> None:
        """Let a thread wait for its turn."""
        busy, waiting = turns._busy, len(turns._waiting)  # the thread itself makes them busy

        def write() -> None:
            if first:
                turns.let_thread_go_first()
            with turns:
                self.order.append(name)

        self._threads.append(threading.Thread(target=write))
        self._threads[-1].start()
        if busy:
            wait_until(lambda: len(turns._waiting) > waiting, "a thread that waits")

    def all(self) -> list[str]:
        """Return the order in which all had their turns."""
        for one in self._threads:
            one.join(PATIENCE)
        return self.order


def held(path: str) -> bool:
    """Return whether somebody holds the lock on a file."""
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_threads_write_in_the_order_in_which_they_came_but_those_that_go_first(tmp_path: Path) -> None:
    turns, writers = WritersTurns(str(tmp_path / "a.db")), Writers()
    with turns:
        for name in ("one", "two", "three"):
            writers.ask(turns, name)
        writers.ask(turns, "urgent", first=True)
    assert writers.all() == ["urgent", "one", "two", "three"]


def test_another_process_writes_before_the_next_thread_of_this_one(tmp_path: Path) -> None:
    file, writers = str(tmp_path / "a.db"), Writers()
    ours, theirs = WritersTurns(file), WritersTurns(file)  # each has locks of its own, as another process has
    with ours:
        writers.ask(ours, "our next")
        writers.ask(theirs, "theirs")
        wait_until(lambda: held(f"{file}-next"), "the other process to be the next")
    assert writers.all() == ["theirs", "our next"]


def test_whoever_dies_or_stands_still_in_its_turn_keeps_nobody_from_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(tmp_path / "a.db")
    held_by = f"from mailbbgun.database.engines import WritersTurns as W; W({file!r}).__enter__(); print(); input()"
    with subprocess.Popen([sys.executable, "-c", held_by], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline()
        turns = WritersTurns(file)
        with monkeypatch.context() as changed:
            changed.setattr(engines, "TURN_SECONDS", 0.05)
            changed.setattr(engines, "WITHOUT_TURNS_SECONDS", PATIENCE)
            with turns:
                assert held(f"{file}-turn")  # still by the other
            changed.setattr(engines, "TURN_SECONDS", 10 * PATIENCE)
            with bounded("a write that does not wait for that turn again"), turns:
                assert held(f"{file}-turn")
        other.kill()
        other.wait()
    with WritersTurns(file):
        assert held(f"{file}-turn")
    assert not held(f"{file}-turn")


def test_a_database_in_memory_and_one_in_a_folder_that_cannot_be_written_have_turns_of_threads_alone(
    tmp_path: Path,
) -> None:
    for file in (None, ":memory:", str(tmp_path / "missing" / "a.db")):
        with WritersTurns(file):
            pass
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_such_locks_has_turns_of_threads_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_file: int, _operation: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    turns, writers = WritersTurns(str(tmp_path / "a.db")), Writers()
    monkeypatch.setattr(fcntl, "flock", refuse)
    with turns:
        writers.ask(turns, "next")
    assert writers.all() == ["next"]


def test_a_write_that_fails_ends_its_turn(tmp_path: Path) -> None:
    with closing(Database(f"sqlite:///{tmp_path}/a.db")) as database:
        with pytest.raises(ZeroDivisionError), database.write():
            raise ZeroDivisionError
        with database.write() as session:
            session.connection().exec_driver_sql("CREATE TABLE a (b)")
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("a",)]
