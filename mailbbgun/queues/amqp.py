"""Connections to an AMQP broker, by pika: the only file that imports it.

Its errors leave here as ours, the cause kept.

pika's own time-outs do not cover a broker that accepts and then says nothing: a queue without a
leader holds a publisher for 65 s, a memory alarm for ever. So whoever calls waits on a condition
with a deadline, while a thread of ours owns the connection.
"""

import contextlib
import logging
import re
import socket
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pika
from pika.adapters.select_connection import IOLoop
from pika.adapters.utils.connection_workflow import AMQPConnectorException, AMQPConnectorStackTimeout
from pika.exceptions import (
    AMQPError,
    AMQPHeartbeatTimeout,
    AuthenticationError,
    ChannelClosedByBroker,
    ConnectionBlockedTimeout,
    ConnectionClosedByBroker,
    IncompatibleProtocolError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)

from mailbbgun.core.errors import ConfigurationError, QueueUnavailable
from mailbbgun.core.logs import safe

DEADLINE = 10.0  # seconds a caller waits at most, whatever the broker does
CLOSE_SECONDS = 2.0
CONNECT_SECONDS, OPEN_SECONDS = 3.0, 6.0  # for TCP to connect, and for all until AMQP is spoken

log = logging.getLogger(__name__)
T = TypeVar("T")

Hosts = Sequence[pika.URLParameters]
Channel = Any  # pika's: that of a BlockingConnection for work(), else that of a SelectConnection


class BrokerRefused(QueueUnavailable):
    """The broker closed a channel over what was asked.

    ``reply_code``: 404 there is none, 406 it is different; the text names it.
    """

    def __init__(self, reply_code: int, text: str) -> None:
        super().__init__(f"RabbitMQ: {safe(text)}")
        self.reply_code = reply_code


def persistent() -> pika.BasicProperties:
    """Return new properties.

    Always new: a header of dead-lettering carried over lets RabbitMQ drop a message as a cycle.
    """
    return pika.BasicProperties(delivery_mode=2)  # type: ignore[no-untyped-call]  # pika's


def hosts_of(url: str) -> Hosts:
    """Split ``amqp://user:password@host1:port,host2,host3/vhost?options``.

    Raises :class:`ConfigurationError`.
    """
    parts = urlsplit(url)
    login, at, hosts = parts.netloc.rpartition("@")
    found = []
    try:
        for host in hosts.split(","):
            one = pika.URLParameters(parts._replace(netloc=f"{login}{at}{host.strip()}").geturl())
            one.heartbeat, one.blocked_connection_timeout = 15, 5.0
            one.socket_timeout, one.stack_timeout, one.connection_attempts = CONNECT_SECONDS, OPEN_SECONDS, 1
            one.client_properties = {"connection_name": "mailbbgun"}
            found.append(one)
    except (TypeError, ValueError) as error:
        raise ConfigurationError("QUEUE_URL: is not amqp://user:password@host1:port,host2/vhost") from error
    return found


def at_once(hosts: Hosts, work: Callable[[Channel], T]) -> T:
    """Run blocking work on a channel of its own connection, in a thread that is left behind when 10
    s have passed.

    Raises :class:`QueueUnavailable`, :class:`BrokerRefused`.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            connection = pika.BlockingConnection(hosts)
            try:
                outcome.set_result(work(connection.channel()))
            finally:
                with contextlib.suppress(AMQPError):  # somebody closed it before us, which is as good
                    connection.close()
        except Exception as error:  # noqa: BLE001 - handed to the caller's thread
            outcome.set_exception(error)

    threading.Thread(target=run, name="rabbitmq-control", daemon=True).start()
    try:
        return outcome.result(DEADLINE)
    except ChannelClosedByBroker as error:
        raise BrokerRefused(error.reply_code, error.reply_text) from error
    except (
        AMQPError,
        AMQPConnectorException,
        OSError,
    ) as error:  # OSError: also names that do not resolve, and the deadline
        late = isinstance(error, TimeoutError) and not outcome.done()
        raise (not_answering(hosts, DEADLINE) if late else unreachable(error, hosts)) from error


def missing(hosts: Hosts, looks: Mapping[str, Callable[[Channel], object]]) -> list[str]:
    """Return the names whose look the broker answers with "not found" (404).

    Raises :class:`QueueUnavailable`, :class:`BrokerRefused`.
    """

    def look(channel: Channel) -> list[str]:
        connection, gone = channel.connection, []
        for name, one in looks.items():
            try:
                one(channel)
            except ChannelClosedByBroker as error:
                if error.reply_code != 404:
                    raise
                gone.append(name)
                channel = connection.channel()
        return gone

    return at_once(hosts, look)


class Link:
    """One connection and the one thread that owns it.

    Whatever goes wrong ends the link, once, with one error for all who wait.
    """

    def __init__(self, hosts: Hosts, name: str) -> None:
        self.error: QueueUnavailable | None = None
        self.guard = threading.Condition()
        self._hosts = hosts
        self._ready = self._dropping = False
        self._loop = IOLoop()
        self._connection: _Connection | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def wait(self, timeout: float) -> None:
        """Wait until the link is ready for use. Raises :class:`QueueUnavailable`."""
        with self.guard:
            if not self.guard.wait_for(lambda: self._ready or self.error, timeout):
                self.abort(not_answering(self._hosts, timeout).message)
            self.raise_error()

    def raise_error(self) -> None:
        """Raise what ended the link, if it has ended. Hold the guard."""
        if self.error:
            raise QueueUnavailable(self.error.message, address=address_of(self._hosts)) from self.error

    def post(self, work: Callable[[], None]) -> None:
        """Run in the link's thread. Hold the guard. Raises :class:`QueueUnavailable`."""
        self.raise_error()
        self._loop.add_callback_threadsafe(work)

    def abort(self, reason: str) -> None:
        """End the link without a word to the broker: under an alarm it would not read it."""
        error = QueueUnavailable(reason)
        with self.guard, contextlib.suppress(QueueUnavailable):
            self.post(lambda: self._drop(error))
            self.error = error
            self.guard.notify_all()

    def close(self) -> None:
        """Say goodbye, and leave after 2 s even if nobody answers. Never raises, safe to repeat."""
        with self.guard, contextlib.suppress(QueueUnavailable):
            self.post(self._goodbye)
        self._thread.join(CLOSE_SECONDS + 1)

    def opened(self, connection: pika.SelectConnection) -> None:
        """Open channels; call :meth:`is_ready` when done.

        Runs in the link's thread, as every callback.
        """
        raise NotImplementedError

    def is_ready(self) -> None:
        """Let those go on who wait for the link."""
        with self.guard:
            self._ready = True
            self.guard.notify_all()

    def broke(self, _source: object, reason: object) -> None:
        """End the link: pika's callback for channels and connections that close."""
        text = getattr(reason, "reply_text", "") if isinstance(reason, Exception) else ""
        error = QueueUnavailable(
            f"RabbitMQ closed the connection: {safe(text)}" if text else "the connection to RabbitMQ broke"
        )
        error.__cause__ = reason if isinstance(reason, BaseException) else None
        self._end(error)
        if not (self._connection and self._connection.is_closing):  # saying goodbye closes the channels one by one
            self._drop(error)

    def _run(self) -> None:
        try:
            self._workflow = _Connection.create_connection(self._hosts, self._connected, self._loop)
            self._loop.start()
        except Exception as error:
            log.exception("the RabbitMQ thread failed")
            self._end(QueueUnavailable(f"the RabbitMQ thread failed: {safe(error) or 'see the traceback in the log'}"))
        finally:
            self._end(QueueUnavailable("the connection to RabbitMQ is closed"))
            self._loop.close()

    def _connected(self, outcome: Any) -> None:
        if isinstance(outcome, BaseException):
            tries = getattr(outcome, "exceptions", ())  # one per host and address
            self._end(
                unreachable(tries[-1].exception if tries and hasattr(tries[-1], "exception") else outcome, self._hosts)
            )
            self._dropping = True  # there is nothing left to drop
            self._loop.stop()
            return
        self._connection = outcome
        outcome.add_on_close_callback(self.broke)
        if self.error:  # somebody stopped waiting in this very moment
            outcome.terminate(self.error)
        else:
            self.opened(outcome)

    def _goodbye(self) -> None:
        if self._connection and self._connection.is_open:
            self._connection.close()
            self._loop.call_later(CLOSE_SECONDS, lambda: self._drop(QueueUnavailable("RabbitMQ did not say goodbye")))
        else:
            self._drop(QueueUnavailable("the connection to RabbitMQ is closed"))

    def _drop(self, error: QueueUnavailable) -> None:
        if self._connection and self._connection.is_closed:
            self._loop.stop()
        elif not self._dropping:
            self._dropping = True
            if self._connection:
                self._connection.terminate(error)  # and once it is closed pika calls broke()
            else:
                self._workflow.abort()  # and pika calls _connected()

    def _end(self, error: QueueUnavailable) -> None:
        with self.guard:
            self.error = self.error or error
            self.guard.notify_all()


class _Connection(pika.SelectConnection):
    def terminate(self, error: Exception) -> None:
        """Close the socket now. pika keeps this for its adapters, and its close() waits for an
        answer.
        """
        self._terminate_stream(error)


def address_of(hosts: Hosts) -> str:
    """Return where the broker is, without user and password."""
    return ", ".join(f"{one.host}:{one.port}" for one in hosts)


def not_answering(hosts: Hosts, seconds: float) -> QueueUnavailable:
    """Say that the broker said nothing for so long."""
    return QueueUnavailable(
        f"RabbitMQ does not answer: no answer within {max(1, round(seconds))} s", address=address_of(hosts)
    )


def _reason(cause: BaseException) -> str:
    """Say in plain words what pika met; "" if only pika has words for it."""
    seen: BaseException | None = cause
    while seen is not None:
        match seen:
            case ConnectionRefusedError():
                return "connection refused"
            case socket.gaierror():
                return "its host name cannot be resolved"
            case ssl.SSLError():
                return f"TLS failed: {safe(seen.strerror or 'the connection ended')}"
            case AMQPConnectorStackTimeout():
                return f"no answer within {OPEN_SECONDS:.0f} s"
            case AMQPHeartbeatTimeout():
                return "it sent no heartbeat"
            case TimeoutError():
                return f"no answer within {CONNECT_SECONDS:.0f} s"
            case ConnectionBlockedTimeout():
                return "it is short of memory or disk"
            case ConnectionClosedByBroker():
                return f"it closed the connection: {safe(seen.reply_text)}"
            case IncompatibleProtocolError():
                return "what answers there does not speak AMQP 0-9-1"
            case OSError() if seen.strerror:
                return safe(seen.strerror).lower()
        inner = [*getattr(seen, "exceptions", ())[-1:], getattr(seen, "exception", None), *seen.args, seen.__cause__]
        seen = next((one for one in inner if isinstance(one, BaseException)), None)
    return ""


def unreachable(cause: BaseException, hosts: Hosts) -> QueueUnavailable:
    """Say what kept us from connecting, as far as it is safe to show."""
    probably = isinstance(cause, ProbableAuthenticationError | ProbableAccessDeniedError)
    refused = isinstance(cause, AuthenticationError) or (
        isinstance(cause, ConnectionClosedByBroker) and cause.reply_code in (403, 530)
    )
    # A broker that hangs up without a word may refuse us, or be going down: nobody is to give up
    # over that. Pika keeps its word as text only.
    refused = refused or (probably and bool(re.search(r"ConnectionClosedByBroker: \((403|530)\)", str(cause))))
    told = "QUEUE_URL: RabbitMQ refuses our user, password or virtual host"
    away = f"RabbitMQ does not answer: {_reason(cause) or 'it hung up'}"
    error = QueueUnavailable(told if refused or probably else away, refused=refused, address=address_of(hosts))
    error.__cause__ = cause
    return error
