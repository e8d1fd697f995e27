"""The proxy does what it says: without damage, all chaos tests would pass as well."""

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.chaos.proxy import Proxy
from tests.waiting import PATIENCE, at_least, pause


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that echoes everything; its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(client,), daemon=True).start()

        def answer(client: socket.socket) -> None:
            with client:
                try:
                    while data := client.recv(65_536):
                        client.sendall(data)
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(echo: int) -> Iterator[Proxy]:
    with Proxy(echo) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as client:
        yield client


def said(client: socket.socket, words: bytes) -> bytes:
    """Send something and return the answer."""
    client.sendall(words)
    return client.recv(65_536)


def test_a_reply_is_cut_after_the_server_was_asked(proxy, client):
    proxy.cut_replies_to(b"COMMIT", times=1, skip=1)
    assert said(client, b"COMMIT") == b"COMMIT"
    assert said(client, b"COM") == b"COM"
    with pytest.raises(ConnectionResetError):
        said(client, b"MIT")
    assert proxy.cuts == 1


def test_a_direction_is_silent_until_it_is_healed(proxy, client):
    client.settimeout(0.3)
    for direction in ("out", "back"):
        proxy.black_hole(direction)
        with pytest.raises(TimeoutError):
            said(client, direction.encode())
        proxy.heal()
        client.settimeout(PATIENCE)
        assert client.recv(100) == direction.encode()
        client.settimeout(0.3)


def test_a_connection_is_reset_after_so_many_bytes(proxy, client):
    proxy.reset_at = 1_000
    client.sendall(b"x" * 600)
    with pytest.raises(ConnectionResetError):
        list(iter(lambda: client.recv(1_000), b""))


def test_connections_are_cut_and_new_ones_go_where_the_server_is_now(proxy, client, echo):
    assert said(client, b"hello") == b"hello"
    proxy.upstream = 1
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        said(client, b"hello")
    with pytest.raises(ConnectionResetError), socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as refused:
        refused.recv(1)
    proxy.upstream = echo
    with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as again:
        assert said(again, b"hello") == b"hello"


def test_latency_and_bandwidth_are_kept(proxy, client):
    proxy.latency, proxy.rate = 0.05, 100_000
    client.settimeout(PATIENCE)
    with at_least(0.2):  # on the way there, and on the way back
        client.sendall(b"x" * 20_000)
        heard = 0
        while heard < 20_000:
            heard += len(client.recv(65_536))


def test_it_closes_without_a_word_while_clients_are_connected(echo, caplog):
    with Proxy(echo) as proxy:
        clients = [socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) for _ in range(2)]
        for client in clients:
            said(client, b"hello")
        proxy.black_hole()
        clients[0].sendall(b"on its way")
        pause(0.1)
    for client in clients:
        client.close()
    assert caplog.records == []
