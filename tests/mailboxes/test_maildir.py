"""A Maildir keeps the newest messages and deletes the oldest, on a real disk."""

import os
import threading
import time
from pathlib import Path

import pytest

from mailbbgun.mailboxes.maildir import DRAFT_SECONDS, Maildir

MANY = 1_000_000_000


def maildir(folder: Path, most: int = 1000, size: int = MANY) -> Maildir:
    one = Maildir(folder / "mail", most, size)
    one.make()
    return one


def kept(one: Maildir) -> list[bytes]:
    """Return the messages, the oldest first."""
    files = [path for name in ("new", "cur") for path in (one.folder / name).iterdir()]
    return [path.read_bytes() for path in sorted(files, key=lambda path: path.stat().st_mtime_ns)]


def test_the_newest_messages_stay_whether_they_were_read_or_not(tmp_path):
    one = maildir(tmp_path, most=3)
    for number in range(3):
        file = one.keep(b"%d" % number)
        file.rename(one.folder / "cur" / f"{file.name}:2,S")
    for number in range(3, 5):
        one.keep(b"%d" % number)
    assert kept(one) == [b"2", b"3", b"4"]


def test_the_newest_messages_within_the_size_stay_and_the_last_one_in_any_case(tmp_path):
    one = maildir(tmp_path, size=100)
    for letter in (b"a", b"b", b"c"):
        one.keep(letter * 40)
    assert kept(one) == [b"b" * 40, b"c" * 40]
    one.keep(b"d" * 500)
    assert kept(one) == [b"d" * 500]


def test_messages_from_before_a_restart_count(tmp_path):
    first = maildir(tmp_path)
    for number in range(30):
        first.keep(b"%d" % number)
    again = maildir(tmp_path, most=10)
    again.keep(b"last")
    assert kept(again) == [*(b"%d" % number for number in range(21, 30)), b"last"]


def test_between_two_listings_there_is_at_most_a_hundredth_more(tmp_path):
    one, most = maildir(tmp_path, most=300), 0
    for number in range(350):
        one.keep(b"%d" % number)
        most = max(most, len(list((one.folder / "new").iterdir())))
    assert most <= 303
    assert kept(one)[-1] == b"349"


def test_nobody_else_may_read_a_message_whatever_folder_it_is_in(tmp_path):
    tmp_path.chmod(0o755)
    assert maildir(tmp_path).keep(b"secret").stat().st_mode & 0o777 == 0o600


def test_abandoned_drafts_are_deleted_after_a_day_and_a_half_and_folders_stay(tmp_path):
    one = maildir(tmp_path)
    for name, age in (("old", DRAFT_SECONDS + 60), ("young", DRAFT_SECONDS - 60)):
        (one.folder / "tmp" / name).touch()
        os.utime(one.folder / "tmp" / name, (time.time() - age,) * 2)
    (one.folder / "new" / "folder").mkdir()
    one.keep(b"x")
    assert [path.name for path in (one.folder / "tmp").iterdir()] == ["young"]
    assert (one.folder / "new" / "folder").is_dir()


def test_a_file_that_cannot_be_deleted_is_logged_and_mail_is_kept(tmp_path, caplog: pytest.LogCaptureFixture):
    one = maildir(tmp_path, most=1)
    (one.folder / "cur").rmdir()
    (one.folder / "cur").touch()  # not a folder, so it cannot be listed
    assert one.keep(b"x").read_bytes() == b"x"
    assert [record.message for record in caplog.records] == ["maildir_not_trimmed"]


def test_many_threads_together_stay_within_the_bound_and_keep_the_newest(tmp_path):
    one = maildir(tmp_path, most=20)

    def keep() -> None:
        for _ in range(25):
            one.keep(b"early")

    threads = [threading.Thread(target=keep) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(20):
        one.keep(b"late")
    assert kept(one) == [b"late"] * 20
