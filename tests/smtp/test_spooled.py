"""A message in a file is sent like the same message in memory."""

import os
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailbbgun.relays.client import SMTPConnection
from mailbbgun.smtp.adapting.downgrade import downgraded, header_is_ascii
from mailbbgun.smtp.content import EnvelopeError, content
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import Bounced, Deferred, Delivered, Outcome, Phase, TooMany
from mailbbgun.smtp.spooled import MAX_HEADER, Raw, Spooled, SpoolFailed, spool
from tests.smtp.clients import Journal, connected
from tests.smtp.drivers import awaited, sent, with_each_driver
from tests.smtp.peers import PATIENT, Peer
from tests.smtp.tables import Server, Table
from tests.smtp.talks import CLEAR

READ, WRITE = 48 * 1024, 64 * 1024  # borders of blocks that are read and written
TMP = os.environ.get("TMPDIR", "/tmp")


def cut(raw: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(raw), size):
        yield raw[start : start + size]


def verdict(made: Callable[[], bytes]) -> bytes | str | None:
    """Return what a function makes, or the code of its EnvelopeError (a message may have several faults)."""
    try:
        return made()
    except EnvelopeError as error:
        return error.outcome.reply.enhanced


def written(raw: bytes, size: int = 1 << 30) -> bytes:
    with spool(cut(raw, size), TMP) as spooled:
        blocks = list(spooled.blocks())
        assert max(map(len, blocks), default=0) <= 64 * 1024
        assert (len(spooled), spooled.isascii(), b"".join(spooled.octets())) == (len(raw), raw.isascii(), raw)
        return b"".join(blocks)


def line(octets: int) -> bytes:
    """Return short lines of so many octets together."""
    return b"x" * (octets % 64) + b"\r\n" + (b"y" * 62 + b"\r\n") * (octets // 64) if octets > 2 else b""


# Octets that matter, at each place around the borders of what is read and written at once.
AT_BORDERS = [
    line(border)[: border - before] + octets
    for border in (READ, WRITE, 2 * READ)
    for before in range(5)
    for octets in (
        b"\r\n.\r\nz\r\n",
        b"\r\n..\r\n",
        b"\r\n.",
        b"\r\n\r\n.a",
        b"\n.",
        b"\r.",
        b"\r",
        b"\0",
        b"\xff\r\n.\r\n",
    )
]
ODD = [
    b"",
    b".",
    b"\r\n",
    b".\r\n",
    b"a",
    b"a\r",
    b".\r\n" * READ,
    b"\r\n." * READ,
    b"." * 998 + b"\r\n" + b"." * 999,
    b"a" * 998,
    b"a" * 999,
    b"x\r\n" + b"a" * 200_000,
    b"x\r\n" + b"a" * 200_000 + b"\n",
    b"x" * READ + b"\n.",
]


@pytest.mark.parametrize("raw", [*AT_BORDERS, *ODD], ids=range(len(AT_BORDERS) + len(ODD)))
def test_a_file_goes_out_as_the_same_octets_as_bytes_or_is_refused_like_them(raw: bytes) -> None:
    expected = verdict(lambda: content(raw))
    for size in (1 << 30, WRITE, 1000, 7):
        assert verdict(lambda size=size: written(raw, size)) == expected


PARTS = [b"\r\n", b"\r", b"\n", b".", b"a", b"\xc3\xa4", b"\0", b"a" * 900, (b"b" * 76 + b"\r\n") * 840]


@settings(deadline=None)
@given(st.lists(st.sampled_from(PARTS[:2] + PARTS[3:6] + PARTS[7:]) | st.sampled_from(PARTS)), st.integers(1, 70_000))
def test_any_message_goes_out_from_a_file_as_from_memory(parts: list[bytes], size: int) -> None:
    raw = b"".join(parts)
    assert verdict(lambda: written(raw, max(size, len(raw) // 1000 + 1))) == verdict(lambda: content(raw))


HEADERS = [
    b"Subject: x\r\n\r\nbody\r\n",
    b"Subject: x\r\n",
    b"\r\nbody\r\n\r\nmore",
    "Subject: ü\r\n\r\nbody\r\n".encode(),
    "Subject: ü\r\n".encode(),
    "To: ü@a.b, ann@example.com\r\n\r\n.bödy\r\n".encode(),
    "From: ü@a.b\r\n\r\nbody\r\n".encode(),
    b"A: b\r\n" * (WRITE // 6) + "C: ü\r\n\r\nbödy\r\n".encode(),
    b"A:   b\r\n" * (WRITE // 8) + "\r\nbödy\r\n".encode(),  # the empty line begins what is written second
    b"A:  b\r\n" * (WRITE // 7 + 1) + "C: ü\r\n".encode() * 20 + b"\r\n" + b"text\r\n" * 30_000,
]


@pytest.mark.parametrize("raw", HEADERS, ids=range(len(HEADERS)))
@pytest.mark.parametrize("size", [1 << 20, 1])
def test_the_header_of_a_file_is_found_and_downgraded_as_in_memory(raw: bytes, size: int) -> None:
    def made(message: Raw) -> bytes:
        less = downgraded(message)
        if not isinstance(less, Spooled):
            return less
        octets = b"".join(less.octets())
        assert (len(less), less.isascii()) == (len(octets), octets.isascii())
        assert b"".join(less.blocks()) == content(octets)
        assert octets == less.header + b"".join(less.body())
        return octets

    with spool(cut(raw, size), TMP) as spooled:
        assert spooled.header == raw[: raw.find(b"\r\n\r\n") + 2 or len(raw)] if b"\r\n\r\n" in raw else raw
        assert header_is_ascii(spooled) == header_is_ascii(raw)
        assert verdict(lambda: made(spooled)) == verdict(lambda: made(raw))
        assert b"".join(spooled.octets()) == raw


def test_a_header_that_fills_the_memory_is_not_read() -> None:
    with spool([b"A: b\r\n" * (MAX_HEADER // 6 + 1)], TMP) as spooled, pytest.raises(EnvelopeError) as caught:
        _ = spooled.header
    assert caught.value.outcome.reply.enhanced == "5.6.0"


def test_a_new_header_is_checked() -> None:
    with spool([b"A: b\r\n\r\nc\r\n"], TMP) as spooled, pytest.raises(EnvelopeError):
        spooled.with_header(b"A: b\nC: d\r\n")


# -- files


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file grow beyond `size`, as on a disk that is full."""
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))


def test_a_file_has_no_name_and_is_gone_when_it_is_closed(tmp_path: Path) -> None:
    before = open_files()
    folder = tmp_path / "spool"
    with spool([b"x\r\n"], folder) as spooled:
        assert (list(folder.iterdir()), open_files()) == ([], before + 1)
        spooled.with_header(b"A: b\r\n")
    assert open_files() == before
    assert folder.stat().st_mode & 0o777 == 0o700
    spooled.close()


def test_a_full_disk_defers_and_leaves_nothing(tmp_path: Path) -> None:
    before = open_files()
    with largest_file(100_000), pytest.raises(SpoolFailed, match="spool folder: file too large") as caught:
        spool([b"x" * 62 + b"\r\n"] * 10_000, tmp_path)
    outcome = caught.value.outcome
    assert (type(outcome), outcome.reply.enhanced) == (Deferred, "4.3.1")
    assert (list(tmp_path.iterdir()), open_files()) == ([], before)


def test_a_folder_that_cannot_be_written_defers(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file")
    with pytest.raises(SpoolFailed, match="cannot be written to the spool folder"):
        spool([b"x\r\n"], tmp_path / "spool")


def test_an_error_of_the_pieces_passes_through_and_leaves_nothing(tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"x\r\n" * 50_000
        raise KeyError("blob")

    before = open_files()
    with pytest.raises(KeyError, match="blob"):
        spool(pieces(), tmp_path)
    assert (list(tmp_path.iterdir()), open_files()) == ([], before)


# -- transactions


@with_each_driver
def test_a_file_that_cannot_be_read_to_its_end_is_deferred_without_the_dot(tmp_path: Path) -> None:
    journal = Journal()
    with spool([b"x" * 70 + b"\r\n"] * 5000, tmp_path) as spooled:
        os.ftruncate(spooled._file.fileno(), 100_000)
        with Peer() as peer, connected(peer) as connection:
            outcome = sent(connection, Envelope("a@a.test", ("b@b.test",), spooled), journal.before_dot)["b@b.test"]
            assert not connection.usable
    assert isinstance(outcome, Deferred)
    assert (outcome.phase, outcome.reply.enhanced) == (Phase.BODY, "4.3.0")
    assert "the file ends after 100000 of 360000 octets" in outcome.reply.text
    assert (journal.before, peer.messages) == ([], [])


@with_each_driver
def test_a_file_is_sent_as_often_as_it_is_needed(tmp_path: Path) -> None:
    raw = "To: ü@b.test\r\n\r\n".encode() + b".dots\r\n" * 100_000
    whole, ascii_only = Peer(), Peer(extensions=("PIPELINING", "SIZE 10000000", "8BITMIME"))
    with spool(cut(raw, 5000), tmp_path) as spooled, whole, ascii_only:
        for envelope in (
            Envelope("a@a.test", ("b@b.test",), raw, True),
            Envelope("a@a.test", ("b@b.test",), spooled, True),
        ):
            for peer in (whole, ascii_only):
                with connected(peer) as connection:
                    for _ in range(2):
                        assert isinstance(sent(connection, envelope)["b@b.test"], Delivered)
    for peer in (whole, ascii_only):
        assert len({message.raw for message in peer.messages}) == 1
        assert len({command for command in peer.commands if command.startswith(b"MAIL")}) == 1
    assert re.sub(rb"(?m)^\.", b"", whole.messages[0].raw) == raw


def test_a_reply_between_two_blocks_ends_the_message(tmp_path: Path) -> None:
    class Impatient(Server):
        """Says no as soon as the message has begun."""

        def take(self, octets: bytes) -> bytes:
            said = super().take(octets)
            return b"552 5.3.4 too big\r\n" if self._in_message and not said else said

    end, journal = Impatient(), Journal()

    async def talk(mail: Envelope) -> dict[str, Outcome | TooMany]:
        connection = await SMTPConnection.open(CLEAR, "client.test", PATIENT)
        return await connection.send(mail, awaited(journal.before_dot), awaited(journal.after_dot))

    table = Table(lambda: end)
    with spool([b"x" * 70 + b"\r\n"] * 100_000, tmp_path) as spooled:
        outcomes = table.run(talk(Envelope("a@a.test", ("b@b.test",), spooled)))
    (outcome,) = outcomes.values()
    assert isinstance(outcome, Bounced)
    assert (outcome.phase, outcome.reply.code) == (Phase.BODY, 552)
    assert len(table.links[0].sent) < READ + 1000
    assert (journal.before, table.links[0].closed) == ([], "reset")
