"""``bin/mailbbgun send`` and ``batch``: a mail for each row of a CSV file, and what became of a batch."""

import csv
import os
import signal
import subprocess
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import delete, select

from mailbbgun.batches.models import Batch
from mailbbgun.messages.models import Delivery, Message
from tests.cli.conftest import ROOT, Shell
from tests.waiting import wait_until


def write(path: Path, rows: list[list[str]], **options: str) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, **options).writerows(rows)
    return path


def people(path: Path, n: int) -> Path:
    return write(path, [["to", "name"], *([f"u{i}@{domain(path)}", f"Name {i}"] for i in range(n))])


def domain(path: Path) -> str:
    """Return the domain of a test's recipients. Tests share an installation."""
    return f"{sha256(str(path.parent).encode()).hexdigest()[:16]}.example.com"


def stored(shell: Shell, path: Path, times: int = 1) -> dict[str, str]:
    """Return the subject of each stored message of a test, by its recipient. Each is stored so many times."""
    with shell.services.db.read() as session:
        joined = select(Delivery.address, Message.subject).join(Message, Message.id == Delivery.message_id)
        found = session.execute(joined.where(Delivery.address.endswith(domain(path)))).all()
    assert set(Counter(address for address, _ in found).values()) <= {times}
    return dict(found)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("Dear {{ name }}.\n")
    return path


def rejected(path):
    """Return the rows of the file of rejected rows."""
    with path.with_suffix(".rejects.csv").open(newline="") as file:
        return [*csv.reader(file)]


def send(shell, path, text, *more, code=0):
    return shell.run("send", "--csv", str(path), "--subject", "To {{ name }}", "--text", str(text), *more, code=code)


@pytest.mark.both
def test_each_row_of_a_file_becomes_a_mail_with_its_own_values(shell, tmp_path, text):
    path = people(tmp_path / "people.csv", 25)
    result = send(shell, path, text, "--rows", "10", "--tag", "march")
    assert "25 accepted, 0 rejected" in result.output
    assert stored(shell, path) == {f"u{i}@{domain(path)}": f"To Name {i}" for i in range(25)}
    assert [one["messages"] for one in shell.json("batch", "list", "--limit", "3")["batches"]] == [5, 10, 10]


def test_a_second_run_sends_nothing_again_but_under_another_name_it_does(shell, tmp_path, text):
    path = people(tmp_path / "people.csv", 12)
    send(shell, path, text, "--rows", "5")
    assert "0 accepted, 0 rejected, 12 rows done before" in send(shell, path, text, "--rows", "5").output
    assert len(stored(shell, path)) == 12
    assert "12 accepted" in send(shell, path, text, "--rows", "5", "--name", "again").output
    assert len(stored(shell, path, times=2)) == 12


def test_a_second_run_with_other_batches_sends_only_what_no_batch_has(shell, tmp_path, text):
    path = people(tmp_path / "people.csv", 12)
    send(shell, path, text, "--rows", "5")
    with shell.services.db.write() as session:  # as if the run had ended before its second batch
        second = session.scalars(select(Batch).where(Batch.source.endswith(":6-10")).order_by(Batch.id.desc())).first()
        gone = select(Message.id).where(Message.batch_id == second.id)
        session.execute(delete(Delivery).where(Delivery.message_id.in_(gone)))
        session.execute(delete(Message).where(Message.batch_id == second.id))
        session.delete(second)
    assert "5 accepted, 0 rejected, 7 rows done before" in send(shell, path, text, "--rows", "3").output
    assert len(stored(shell, path)) == 12
    assert "0 accepted, 0 rejected, 12 rows done before" in send(shell, path, text).output


def test_rejected_rows_are_in_a_file_with_their_reasons_whatever_is_repeated(shell, tmp_path, text):
    ours = domain(tmp_path / "people.csv")
    rows = [["name", "e-mail", "to"], ["Ann", "x", f"ann@{ours}"], ["Ben", "x", "nobody"], ["Cis", "x"]]
    rows += [["Dot", "x", f"dot@{ours}"], ["Eve", "x", f"eve@{ours}, fay@{ours}"]]
    path = write(tmp_path / "people.csv", rows, delimiter=";")
    for told in ("2 accepted, 3 rejected", "0 accepted, 3 rejected, 5 rows done before"):
        assert told in send(shell, path, text).output
        found = rejected(path)
        assert found[0] == ["row", "reason", "name", "e-mail", "to"]
        assert [(row[0], row[2]) for row in found[1:]] == [("2", "Ben"), ("3", "Cis"), ("5", "Eve")]
        assert "nobody" in found[1][1]
        assert "2 fields" in found[2][1]
    assert stored(shell, path) == {f"ann@{ours}": "To Ann", f"dot@{ours}": "To Dot"}


def test_a_variable_that_a_row_lacks_is_named_and_a_run_that_sends_nothing_fails(shell, tmp_path, text):
    path = write(tmp_path / "people.csv", [["to", "nom"], ["a@example.com", "Ann"]])
    assert "0 accepted, 1 rejected" in send(shell, path, text, code=1).output
    _, row = rejected(path)
    assert "name" in row[1]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "names no column"),
        (b"name,mail\nAnn,a@example.com\n", "names no column"),
        (b"to,to\na@example.com,b\n", "a name of its own"),
        (b"to\na@example.com\n\xff\xff@example.com\n", "not UTF-8"),
        (b'to\n"a@example.com\n', "line"),
    ],
)
def test_a_file_that_is_no_table_of_people_is_refused_with_the_reason(shell, tmp_path, text, content, told):
    path = tmp_path / "people.csv"
    path.write_bytes(content)
    result = send(shell, path, text, code=1)
    assert told in result.output
    assert stored(shell, path) == {}


def test_a_fault_of_the_content_ends_the_command_and_is_told(shell, tmp_path, text):
    path = people(tmp_path / "people.csv", 3)
    result = send(shell, path, text, "--from", "nobody", code=1)
    assert "from" in result.output
    assert stored(shell, path) == {}


@pytest.mark.long
def test_a_run_that_was_killed_goes_on_where_it_was_and_doubles_nothing(shell, tmp_path, text):
    n = 3000
    path = people(tmp_path / "people.csv", n)
    argv = [str(ROOT / "bin" / "mailbbgun"), "send", "--csv", str(path), "--subject", "To {{ name }}"]
    argv += ["--text", str(text), "--rows", "20"]

    def batches():
        with shell.services.db.read() as session:
            return len(session.scalars(select(Batch.id)).all())

    for more in (3, 10):
        before = batches()
        run = subprocess.Popen(argv, cwd="/", env=shell.environment(), start_new_session=True)
        wait_until(lambda wanted=before + more: batches() >= wanted, "some batches")
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    assert 0 < len(stored(shell, path)) < n
    shell.process("mailbbgun", *argv[1:])
    assert stored(shell, path) == {f"u{i}@{domain(path)}": f"To Name {i}" for i in range(n)}


def test_a_batch_is_shown_and_cancelled(shell, tmp_path, text):
    send(shell, people(tmp_path / "people.csv", 3), text)
    (one,) = shell.json("batch", "list", "--limit", "1")["batches"]
    assert "PENDING=3" in shell.run("batch", "show", one["id"]).output
    assert "3 of 3 messages are cancelled" in shell.run("batch", "cancel", one["id"]).output
    assert shell.json("batch", "show", one["id"])["statuses"] == {"CANCELLED": 3}
    assert "100%" in shell.run("batch", "list").output
    missing = shell.run("batch", "show", "019cdb4a-7c00-7000-8000-00000000002a", code=1)
    assert "no such batch" in missing.output


def test_a_template_is_sent_to_the_people_of_a_file(shell, tmp_path):
    path = people(tmp_path / "people.csv", 3)
    (tmp_path / "t.html").write_text("<p>Dear {{ name }}</p>")
    shell.run("template", "save", "spring", "--subject", "Spring, {{ name }}", "--html", str(tmp_path / "t.html"))
    result = shell.run("send", "--csv", str(path), "--template", "spring")
    assert "3 accepted, 0 rejected" in result.output
    assert stored(shell, path) == {f"u{i}@{domain(path)}": f"Spring, Name {i}" for i in range(3)}
    assert "template" in shell.run("send", "--csv", str(path), "--template", "gone", code=1).output
    assert "--template or --subject" in shell.run("send", "--csv", str(path), code=2).output
