"""An error says in plain words why a broker cannot be reached, with its address and no password."""

import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator

import pytest
from pika.adapters.utils.connection_workflow import (
    AMQPConnectionWorkflowFailed,
    AMQPConnectorSocketConnectError,
    AMQPConnectorStackTimeout,
)
from pika.exceptions import AMQPConnectionError, AMQPHeartbeatTimeout, ConnectionClosedByBroker, StreamLostError

from mailbbgun.core.errors import QueueUnavailable, explained
from mailbbgun.core.ids import new_id
from mailbbgun.queues.amqp import hosts_of, unreachable
from mailbbgun.queues.rabbitmq import RabbitMQ
from tests.servers.process import free_port

HOSTS = hosts_of("amqp://robot:hunter2@one.example.com,two.example.com:5673/x")


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (
            AMQPConnectionError(AMQPConnectorSocketConnectError(ConnectionRefusedError(111, "Connection refused"))),
            "connection refused",
        ),
        (
            AMQPConnectionWorkflowFailed([AMQPConnectorSocketConnectError(OSError(113, "No route to host"))]),
            "no route to host",
        ),
        (AMQPConnectorSocketConnectError(TimeoutError("TCP connection attempt timed out")), "no answer within 3 s"),
        (AMQPConnectorStackTimeout("Timeout while setting up AMQP"), "no answer within 6 s"),
        (socket.gaierror(-2, "Name or service not known"), "its host name cannot be resolved"),
        (ssl.SSLError(1, "certificate verify failed"), "TLS failed: certificate verify failed"),
        (AMQPHeartbeatTimeout("No activity"), "it sent no heartbeat"),
        (
            ConnectionClosedByBroker(320, "CONNECTION_FORCED - broker forced connection closure"),
            "it closed the connection: CONNECTION_FORCED",
        ),
        (StreamLostError("Stream connection lost"), "it hung up"),
    ],
)
def test_what_the_library_meets_is_told_in_plain_words(cause: BaseException, reason: str) -> None:
    error = unreachable(cause, HOSTS)
    assert str(error).startswith(f"RabbitMQ does not answer: {reason}")
    assert explained(error) == f"{error} (one.example.com:5672, two.example.com:5673)"


HINT = new_id()


class _Web(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.recv(100)
        self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.fixture
def web_server() -> Iterator[int]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Web) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def _told(port: int) -> set[str]:
    """Return the errors of all that connects to a broker: checking, publishing, consuming."""
    queue = RabbitMQ(f"amqp://robot:hunter2@127.0.0.1:{port}/x", [60])
    told = set()
    for connect in (queue.check, lambda: queue.publish("normal", [HINT]), lambda: queue.consumer(10)):
        with pytest.raises(QueueUnavailable) as caught:
            connect()
        assert "hunter2" not in explained(caught.value)
        told.add(explained(caught.value))
    queue.close()
    return told


def test_a_port_where_nothing_listens_is_a_refused_connection_for_all_who_connect() -> None:
    port = free_port()
    assert _told(port) == {f"RabbitMQ does not answer: connection refused (127.0.0.1:{port})"}


def test_a_server_that_speaks_another_language_is_told(web_server: int) -> None:
    assert all(
        one.startswith("RabbitMQ does not answer: ") and one.endswith(f" (127.0.0.1:{web_server})")
        for one in _told(web_server)
    )
