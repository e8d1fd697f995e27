"""Connections to an AMQP broker. Only this file imports pika, and it translates pika's errors.

pika's time-outs do not cover a broker that accepts a message and then says nothing: a queue without
a leader holds a publisher for 65 s, a memory alarm for ever. So a thread of ours owns the
connection, and callers wait for it with a deadline.
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
from urllib.parse import parse_qsl, urlencode, urlsplit

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

#: Seconds a caller waits at most, whatever the broker does.
DEADLINE = 10.0

#: Seconds to close a connection in good order.
CLOSE_SECONDS = 2.0

#: Seconds for the TCP connection, and for everything until AMQP is spoken.
CONNECT_SECONDS, OPEN_SECONDS = 3.0, 6.0

#: What to do about a user that lacks a right (403). Clients see it, so it names no user.
GIVE_RIGHTS = "give the user of QUEUE_URL its rights: rabbitmqctl set_permissions -p VHOST USER '.*' '.*' '.*'"

log = logging.getLogger(__name__)
T = TypeVar("T")

Hosts = Sequence[pika.URLParameters]
Channel = Any  # pika's channel: of a BlockingConnection in run_blocking(), else of a SelectConnection


class BrokerRefused(QueueUnavailable):
    """The broker refused what we asked and closed the channel.

    ``reply_code``: 404 if a queue or exchange does not exist, 406 if it has other arguments. The
    text names it.
    """

    def __init__(self, reply_code: int, text: str) -> None:
        super().__init__(f"RabbitMQ: {_with_advice(reply_code, text)}")
        self.reply_code = reply_code


def _with_advice(reply_code: int, text: str) -> str:
    return f"{safe(text)}; {GIVE_RIGHTS}" if reply_code == 403 else safe(text)


def persistent() -> pika.BasicProperties:
    """Return new properties of a persistent message.

    They must be new: if a header of dead-lettering is sent again, RabbitMQ may take the message for
    a cycle and drop it.
    """
    return pika.BasicProperties(delivery_mode=2)  # type: ignore[no-untyped-call]  # pika's


def hosts_of(url: str) -> Hosts:
    """Split an URL of several hosts, ``amqp://…@host1:port,host2/…``, or raise :class:`ConfigurationError`."""
    parts = urlsplit(url)
    _check_options(parts.query)
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


def _check_options(query: str) -> None:
    """Raise :class:`ConfigurationError` about the first option that pika does not take."""
    for name, value in parse_qsl(query, keep_blank_values=True):
        if not hasattr(pika.URLParameters, f"_set_url_{name}"):
            raise ConfigurationError(f"QUEUE_URL: there is no option {name[:40]!r} for amqp: URLs")
        try:
            pika.URLParameters(f"amqp://localhost/?{urlencode({name: value})}")
        except (AttributeError, OSError, SyntaxError, TypeError, ValueError) as error:
            why = getattr(error, "strerror", None) or "cannot have that value"
            raise ConfigurationError(f"QUEUE_URL: the option {name!r}: {why}") from error


def run_blocking(hosts: Hosts, work: Callable[[Channel], T]) -> T:
    """Run blocking work on a connection of its own; return its result.

    It runs in a thread, which is abandoned after 10 s. Raises :class:`QueueUnavailable`,
    :class:`BrokerRefused`.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            connection = pika.BlockingConnection(hosts)
            try:
                outcome.set_result(work(connection.channel()))
            finally:
                with contextlib.suppress(AMQPError):  # closed already
                    connection.close()
        except Exception as error:  # noqa: BLE001 - handed to the caller's thread
            outcome.set_exception(error)

    threading.Thread(target=run, name="rabbitmq-control", daemon=True).start()
    try:
        return outcome.result(DEADLINE)
    except ChannelClosedByBroker as error:
        raise BrokerRefused(error.reply_code, error.reply_text) from error
    # OSError: also a host name that cannot be resolved, and the deadline.
    except (AMQPError, AMQPConnectorException, OSError) as error:
        late = isinstance(error, TimeoutError) and not outcome.done()
        raise (not_answering(hosts, DEADLINE) if late else unreachable(error, hosts)) from error


def missing(hosts: Hosts, looks: Mapping[str, Callable[[Channel], object]]) -> list[str]:
    """Return the names of the looks to which the broker answers "not found" (404).

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

    return run_blocking(hosts, look)


class Link:
    """A connection and the one thread that owns it.

    Any failure ends the link, once; all waiting callers get the same error.
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
        """Wait until the link can be used. Raises :class:`QueueUnavailable`."""
        with self.guard:
            if not self.guard.wait_for(lambda: self._ready or self.error, timeout):
                self.abort(not_answering(self._hosts, timeout).message)
            self.raise_error()

    def raise_error(self) -> None:
        """Raise the error that ended the link, if it has ended. Hold the guard."""
        if self.error:
            raise QueueUnavailable(self.error.message, address=address_of(self._hosts)) from self.error

    def post(self, work: Callable[[], None]) -> None:
        """Run ``work`` in the link's thread. Hold the guard. Raises :class:`QueueUnavailable`."""
        self.raise_error()
        self._loop.add_callback_threadsafe(work)

    def abort(self, reason: str) -> None:
        """End the link without telling the broker, which would not read it under an alarm."""
        error = QueueUnavailable(reason)
        with self.guard, contextlib.suppress(QueueUnavailable):
            self.post(lambda: self._drop(error))
            self.error = error
            self.guard.notify_all()

    def close(self) -> None:
        """Close in good order, or after 2 s without an answer. Never raises; safe to repeat."""
        with self.guard, contextlib.suppress(QueueUnavailable):
            self.post(self._close_connection)
        self._thread.join(CLOSE_SECONDS + 1)

    def on_opened(self, connection: pika.SelectConnection) -> None:
        """Open channels, then call :meth:`set_ready`. Callbacks run in the link's thread."""
        raise NotImplementedError

    def set_ready(self) -> None:
        """Wake the callers that wait for the link."""
        with self.guard:
            self._ready = True
            self.guard.notify_all()

    def on_closed(self, _source: object, reason: object) -> None:
        """End the link. pika calls this when a channel or connection closes."""
        text = getattr(reason, "reply_text", "") if isinstance(reason, Exception) else ""
        error = QueueUnavailable(
            f"RabbitMQ closed the connection: {_with_advice(getattr(reason, 'reply_code', 0), text)}"
            if text
            else "the connection to RabbitMQ broke"
        )
        error.__cause__ = reason if isinstance(reason, BaseException) else None
        self._end(error)
        if not (self._connection and self._connection.is_closing):  # else the channels are closed one by one
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
            tries = getattr(outcome, "exceptions", ())  # one for each host and address
            self._end(
                unreachable(tries[-1].exception if tries and hasattr(tries[-1], "exception") else outcome, self._hosts)
            )
            self._dropping = True  # there is nothing left to drop
            self._loop.stop()
            return
        self._connection = outcome
        outcome.add_on_close_callback(self.on_closed)
        if self.error:  # the caller stopped waiting just now
            outcome.terminate(self.error)
        else:
            self.on_opened(outcome)

    def _close_connection(self) -> None:
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
                self._connection.terminate(error)  # pika then calls on_closed()
            else:
                self._workflow.abort()  # pika then calls _connected()

    def _end(self, error: QueueUnavailable) -> None:
        with self.guard:
            self.error = self.error or error
            self.guard.notify_all()


class _Connection(pika.SelectConnection):
    def terminate(self, error: Exception) -> None:
        """Close the socket now. pika's close() would wait for an answer."""
        self._terminate_stream(error)


def address_of(hosts: Hosts) -> str:
    """Return the broker's addresses without user and password."""
    return ", ".join(f"{one.host}:{one.port}" for one in hosts)


def not_answering(hosts: Hosts, seconds: float) -> QueueUnavailable:
    """Return the error for a broker that did not answer for ``seconds``."""
    return QueueUnavailable(
        f"RabbitMQ does not answer: no answer within {max(1, round(seconds))} s", address=address_of(hosts)
    )


def _reason(cause: BaseException) -> str:
    """Return in plain words why the connection failed; "" if only pika has words for it."""
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
    """Return the error for a connection that could not be made; it is safe to show."""
    probably = isinstance(cause, ProbableAuthenticationError | ProbableAccessDeniedError)
    refused = isinstance(cause, AuthenticationError) or (
        isinstance(cause, ConnectionClosedByBroker) and cause.reply_code in (403, 530)
    )
    # A broker that hangs up may be refusing us or going down. Only its reply code tells, and pika
    # keeps that as text only.
    refused = refused or (probably and bool(re.search(r"ConnectionClosedByBroker: \((403|530)\)", str(cause))))
    told = "QUEUE_URL: RabbitMQ refuses our user, password or virtual host"
    away = f"RabbitMQ does not answer: {_reason(cause) or 'it hung up'}"
    error = QueueUnavailable(told if refused or probably else away, refused=refused, address=address_of(hosts))
    error.__cause__ = cause
    return error
