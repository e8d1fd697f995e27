"""ClamAV is asked about files, and a scanner that does not answer is noticed in bounded time."""

import socket
import threading
from collections.abc import Iterator

import pytest

from mailbbgun.core.errors import ConfigurationError, ScannerUnavailable
from mailbbgun.safety.scanner import Scanner, Verdict
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
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(PATIENCE)
            octets = b""
            while not octets.endswith(bytes(4)):
                octets += connection.recv(65_536)
            connection.sendall(answer)

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
