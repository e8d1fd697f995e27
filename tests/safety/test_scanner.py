"""ClamAV is asked about files, and a scanner that does not answer is noticed in bounded time."""

import socket
import threading
from collections.abc import Iterator

import pytest

from mailbbgun.core.errors import ConfigurationError, ScannerUnavailable
from mailbbgun.safety.scanner import Scanner, ScannerTurns, Verdict
from tests.safety.samples import GOOD, zipped
from tests.servers.clamd import EICAR, MARKER, MOST, Clamd
from tests.waiting import PATIENCE


def blocks(content: bytes, size: int = 65_536) -> Iterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


@pytest.mark.parametrize("way", ["url", "socket_url"])
def test_a_clean_file_is_clean_and_eicar_is_found(clamd: Clamd, way: str) -> None:
    scanner = Scanner(getattr(clamd, way))
    scanner.check()
    for content in (b"", b"hello", GOOD["pdf"], bytes(3_000_000), GOOD["zip"]):
        assert scanner.scan(blocks(content)) == Verdict("clean")
    for content in (EICAR, b"x" * 100_000 + EICAR + b"x" * 100_000, zipped({"a/b.txt": EICAR})):
        found = scanner.scan(blocks(content))
        assert (found.state, found.words) == ("infected", "Eicar-Test-Signature.UNOFFICIAL")
    assert scanner.scan(blocks(b"x" * 10 + MARKER, size=3)).words == "Test-Marker.UNOFFICIAL"
    assert scanner.scan([b"he", b"", b"llo"]) == Verdict("clean")  # an empty block is not the end


def test_a_file_that_is_too_large_for_the_scanner_is_unscannable(clamd: Clamd) -> None:
    found = Scanner(clamd.url).scan(bytes(65_536) for _ in range(5 * MOST // 65_536))
    assert found.state == "unscannable"
    assert "size limit" in found.words


def test_a_scanner_that_is_away_or_hangs_is_unavailable_until_it_is_back(clamd: Clamd) -> None:
    scanner = Scanner(clamd.url, connect_seconds=0.3, seconds=0.3)
    clamd.pause()
    try:
        with pytest.raises(ScannerUnavailable, match="timed out"):
            scanner.check()
        for size in (10, 20_000_000):
            with pytest.raises(ScannerUnavailable, match="does not answer"):
                scanner.scan(blocks(bytes(size)))
    finally:
        clamd.resume()
    assert Scanner(clamd.url).scan([b"x"]) == Verdict("clean")
    clamd.kill9()
    for url in (clamd.url, clamd.socket_url):
        with pytest.raises(ScannerUnavailable, match="refused"):
            Scanner(url).scan([b"x"])
    clamd.start()
    assert Scanner(clamd.url).scan([EICAR]).state == "infected"


def test_what_the_blocks_raise_passes_through(clamd: Clamd) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x"
        raise KeyError("blob")

    with pytest.raises(KeyError):
        Scanner(clamd.url).scan(broken())
    assert Scanner(clamd.url).scan([EICAR]).state == "infected"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "closed without an answer"),
        (b"stream: Can't allocate memory ERROR\0", 'failed: "Can\'t allocate memory ERROR"'),
        (b"220 mail.example.com ESMTP\r\n", "failed: '220 mail"),
        (b"x" * 100_000, "failed: 'xxx"),
        (b"\xff\xfe\0", "failed"),
    ],
)
def test_an_answer_that_is_no_verdict_is_none(answer: bytes, said: str) -> None:
    def serve() -> None:
        for end, words in ((b"PING\0", b"PONG\0"), (bytes(4), answer)):
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(PATIENCE)
                octets = b""
                while not octets.endswith(end):
                    octets += connection.recv(65_536)
                connection.sendall(words)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ScannerUnavailable, match=said):
            Scanner(f"tcp://127.0.0.1:{listener.getsockname()[1]}").scan([b"hello"])
        thread.join(PATIENCE)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:3310", "http://x:3310", "tcp://", "tcp://h:x", "tcp://h:99999", "unix:clamd.sock", "unix://h/x"]
)
def test_a_url_that_names_no_scanner_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="CLAMAV_URL"):
        Scanner(url)


def test_few_files_at_once_go_to_the_scanner() -> None:
    turns = ScannerTurns(most=2)
    with turns.one(0.0), turns.one(0.0):
        with pytest.raises(ScannerUnavailable, match="busy"), turns.one(0.0):
            pytest.fail("it had no turn")
    with turns.one(0.0), turns.one(0.0):
        pass


@pytest.mark.parametrize("pause", [PATIENCE, 0.0])
def test_after_a_failure_the_scanner_is_left_alone_for_a_while(pause: float) -> None:
    def ask(number: int) -> None:
        with turns.one(0.0):
            asked.append(number)
            raise ScannerUnavailable("away")

    asked, turns = list[int](), ScannerTurns(most=1, pause=pause)
    for number in range(3):
        with pytest.raises(ScannerUnavailable, match="away"):
            ask(number)
    assert asked == ([0] if pause else [0, 1, 2])


def test_an_error_of_the_file_says_nothing_about_the_scanner() -> None:
    turns = ScannerTurns(most=1, pause=PATIENCE)
    for _ in range(2):
        with pytest.raises(KeyError), turns.one(0.0):
            raise KeyError("blob")
    with turns.one(0.0):
        pass


def test_what_is_no_scanner_is_noticed_before_it_gets_a_file() -> None:
    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(PATIENCE)
            heard.append(connection.recv(65_536))
            connection.sendall(b"220 mail.example.com ESMTP\r\n")

    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ScannerUnavailable, match="does not answer like clamd"):
            Scanner(f"tcp://127.0.0.1:{listener.getsockname()[1]}").scan([b"secret"])
        thread.join(PATIENCE)
    assert heard == [b"zPING\0"]
