"""What a journal tells after its writer is gone."""

import os
import signal
import subprocess
import sys
from uuid import UUID, uuid4

import pytest

from mailbbgun.core.errors import ConfigurationError
from mailbbgun.deliver import journal
from mailbbgun.deliver.claim import Claim
from mailbbgun.deliver.journal import Journal, locked, path_of, read
from mailbbgun.smtp.reply import Reply

OK = Reply(250, "2.0.0", "queued, naïve\u2028 text")


def claim(attempt: int = 1) -> Claim:
    return Claim(uuid4(), uuid4(), uuid4(), "a@b.test", "normal", attempt, 0, 0, 0.0)


@pytest.fixture
def owner() -> UUID:
    return uuid4()


def test_dots_replies_and_silence_are_told_apart(tmp_path, owner):
    written = Journal(tmp_path, owner)
    answered, unanswered, undone, untouched = claim(1), claim(2), claim(3), claim(4)
    written.dots([[answered, unanswered]])
    written.replies([([answered], OK)])
    written.dots([[undone]])
    written.undone([undone])
    told = read(path_of(tmp_path, owner), alive=True)
    assert (told.owner, told.same_boot, told.died) == (owner, True, False)
    assert read(path_of(tmp_path, owner), alive=False).died
    assert told.answers == {answered.key: OK, unanswered.key: None}
    assert untouched.key not in told.answers


def test_lines_are_of_one_attempt_and_its_commit_forgets_no_other(tmp_path, owner):
    written, first = Journal(tmp_path, owner), claim(1)
    second = Claim(first.delivery_id, first.message_id, first.tenant_id, first.address, first.lane, 2, 1, 0, 0.0)
    written.dots([[first]])
    written.replies([([first], OK)])
    written.dots([[second]])  # taken again before the thread that committed the first came to say so
    assert read(path_of(tmp_path, owner), alive=True).answers == {first.key: OK, second.key: None}
    written.committed([first])
    assert (written.may_have_sent(first), written.may_have_sent(second)) == (False, True)
    written.close()
    assert read(path_of(tmp_path, owner), alive=False).answers[second.key] is None


def test_a_closed_journal_writes_nowhere(tmp_path, owner):
    written, one = Journal(tmp_path, owner), claim()
    written.dots([[claim()]])
    before = written._file
    written.close()
    content = written.path.read_bytes()
    other = os.open(tmp_path / "other", os.O_CREAT | os.O_RDWR)
    assert other == before, "the number was not given out again"
    writes = (lambda: written.dots([[one]]), lambda: written.undone([one]), lambda: written.replies([([one], OK)]))
    for write in writes:
        with pytest.raises(OSError, match="Bad file descriptor"):
            write()
    assert not written.works()
    assert not written.may_have_sent(one)
    assert (os.pread(other, 1000, 0), written.path.read_bytes()) == (b"", content)
    os.close(other)


def test_a_torn_last_line_is_left_out(tmp_path, owner):
    written = Journal(tmp_path, owner)
    whole, torn = claim(), claim()
    written.dots([[whole]])
    written.dots([[torn]])
    path = path_of(tmp_path, owner)
    path.write_bytes(path.read_bytes()[:-5])
    assert read(path, alive=False).answers == {whole.key: None}


@pytest.mark.parametrize("content", [b"", b'{"owner": "torn'])
def test_a_journal_without_a_whole_header_tells_nothing(tmp_path, content):
    path = tmp_path / "x.journal"
    path.write_bytes(content)
    assert read(path, alive=False) is None


def test_another_boot_is_noticed(tmp_path, owner):
    Journal(tmp_path, owner).dots([[claim()]])
    path = path_of(tmp_path, owner)
    path.write_bytes(path.read_bytes().replace(journal.boot_id().encode(), b"another-boot"))
    assert not read(path, alive=False).same_boot


def test_a_journal_with_nothing_open_is_removed_at_the_end(tmp_path, owner):
    written, one = Journal(tmp_path, owner), claim()
    written.dots([[one]])
    written.replies([([one], OK)])
    written.committed([one])
    written.close()
    assert list(tmp_path.iterdir()) == []


def test_a_journal_with_an_uncommitted_result_stays(tmp_path, owner):
    written, one = Journal(tmp_path, owner), claim()
    written.dots([[one]])
    written.close()
    assert read(path_of(tmp_path, owner), alive=False).answers == {one.key: None}


def test_rotation_keeps_what_is_not_committed_and_the_lock(tmp_path, owner, monkeypatch):
    monkeypatch.setattr(journal, "ROTATE_SIZE", 1000)
    written, kept = Journal(tmp_path, owner), claim()
    written.dots([[kept]])
    for _ in range(100):
        one = claim()
        written.dots([[one]])
        written.replies([([one], OK)])
        written.committed([one])
    path = path_of(tmp_path, owner)
    assert path.stat().st_size < 2000
    told = read(path, alive=True).answers
    assert told[kept.key] is None
    assert len(told) < 10
    with locked(path) as ours:
        assert not ours
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_two_workers_on_one_journal_are_refused(tmp_path, owner):
    first = Journal(tmp_path, owner)
    with pytest.raises(ConfigurationError, match="cannot be written"):
        Journal(tmp_path, owner)
    first.close()


def test_a_folder_that_cannot_be_made_is_refused_by_name(tmp_path, owner):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="journal"):
        Journal(tmp_path / "file" / "journal", owner)


def test_a_full_disk_raises_before_the_dot(owner):
    small = os.path.realpath("/dev/full")
    file = os.open(small, os.O_WRONLY)
    with pytest.raises(OSError, match="No space left"):
        journal._append(file, b"line\n")
    os.close(file)


def test_kill_9_leaves_the_lines_and_frees_the_lock(tmp_path, owner):
    program = f"""
import os, signal, uuid
from pathlib import Path
from mailbbgun.deliver.claim import Claim
from mailbbgun.deliver.journal import Journal
j = Journal(Path({str(tmp_path)!r}), uuid.UUID({str(owner)!r}))
j.dots([[Claim(uuid.UUID(int=5), uuid.uuid4(), uuid.uuid4(), "a@b", "normal", 9, 0, 0, 0.0)]])
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], cwd=os.getcwd()).returncode == -signal.SIGKILL
    path = path_of(tmp_path, owner)
    with locked(path) as ours:
        assert ours
        assert read(path, alive=False).answers == {(UUID(int=5), 9): None}
