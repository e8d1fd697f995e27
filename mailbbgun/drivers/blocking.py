"""The driver that runs one coroutine in the calling thread, and waits by poll(2)."""

import queue
import select
import threading
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Any, TypeVar

from mailbbgun.drivers.link import SocketLink
from mailbbgun.drivers.operations import Connect, Conversation, InThread, Operation, Receive, Send, captured

T = TypeVar("T")


def run(conversation: Conversation[T]) -> T:
    """Run a coroutine to its end; return what it returns, or raise what it raises."""
    step: Callable[[Any], Operation[Any]] = conversation.send
    given: Any = None
    while True:
        try:
            operation = step(given)
        except StopIteration as end:
            result: T = end.value
            return result
        try:
            step, given = conversation.send, _done(operation)
        except BaseException as error:  # noqa: BLE001 - it belongs to the coroutine, which raises what it does not expect
            step, given = conversation.throw, error


def _done(operation: Operation[Any]) -> Any:
    match operation:
        case Receive():
            return _receive(_link(operation), operation.deadline)
        case Send():
            return _send(_link(operation), operation)
        case Connect():
            return _connect(operation)
        case InThread():
            return _in_thread(operation)
    raise TypeError(f"the blocking driver cannot do {type(operation).__name__}")


def _link(operation: Receive | Send) -> SocketLink:
    assert isinstance(operation.link, SocketLink)  # made by _connect
    return operation.link


def _connect(operation: Connect) -> SocketLink:
    link = SocketLink(operation.address, operation.port)
    try:
        while not link.is_connected():
            _wait(link, select.POLLOUT, operation.deadline)
    except BaseException:
        link.close()
        raise
    return link


def _receive(link: SocketLink, deadline: float) -> bytes:
    while True:
        _wait(link, select.POLLIN, deadline)  # first, or a server that never rests would have no deadline
        if (data := link.receive_now()) is not None:
            return data


def _send(link: SocketLink, operation: Send) -> bool:
    while not link.send_now(operation):
        try:
            _wait(link, select.POLLOUT, operation.deadline)
        except TimeoutError as error:
            raise operation.failed(error) from error
        if operation.has_given_way:
            return False
    return True


def _wait(link: SocketLink, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(link.socket, event)
    remaining = deadline - monotonic()
    if remaining <= 0 or not poll.poll(remaining * 1000 if remaining < inf else None):
        raise TimeoutError


def _in_thread(operation: InThread[T]) -> T:
    answer: queue.SimpleQueue[Callable[[], T]] = queue.SimpleQueue()
    threading.Thread(target=lambda: answer.put(captured(operation.call)), name="look-up", daemon=True).start()
    try:
        return answer.get(timeout=None if operation.deadline == inf else max(operation.deadline - monotonic(), 0))()
    except queue.Empty:
        raise TimeoutError from None
