"""The operations that coroutines ask of their driver.

A coroutine holds no socket. Where it must wait for a server or a thread, it awaits an operation. A
*driver* runs the coroutine: it does the operation, and sends the answer in or throws an error.
There are two: `blocking` runs one coroutine in the calling thread, `loop` runs thousands in one.
Tests are a third one, which answers from a table of octets.

Deadlines are points of `time.monotonic()`. An operation that is not done by then ends with
TimeoutError.
"""

from collections.abc import Callable, Coroutine, Generator
from math import inf
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")


class TcpLink(Protocol):
    """One TCP connection of a driver. None of its methods waits."""

    def receive_now(self) -> bytes | None:
        """Return octets that have come already; None if there are none, empty if it was closed.

        Raises OSError.
        """

    def addresses(self) -> tuple[str, str]:
        """Return the IP addresses of the server and of this end. Raises OSError."""

    def close(self) -> None:
        """Close the connection; the kernel still sends what was written."""

    def abort(self) -> None:
        """Reset the connection: the kernel discards what it has not sent yet. Safe to repeat."""


class SendFailed(Exception):
    """Not all octets could be handed to the kernel.

    `error` says why: TimeoutError or another OSError. `handed` says whether some octets were.
    """

    def __init__(self, error: OSError, handed: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.handed = handed


class Operation(Generic[T]):
    """Awaited by a coroutine, and done by the driver. The answer is of the type `T`."""

    __slots__ = ("deadline",)

    deadline: float

    def __await__(self) -> Generator["Operation[Any]", Any, T]:
        answer: T = yield self
        return answer


class Connect(Operation[TcpLink]):
    """Connect to an IP address. Raises OSError."""

    __slots__ = ("address", "port")

    def __init__(self, address: str, port: int, deadline: float) -> None:
        self.address, self.port, self.deadline = address, port, deadline


class Receive(Operation[bytes]):
    """Wait for octets. The answer is empty if the server closed the connection. Raises OSError."""

    __slots__ = ("link",)

    def __init__(self, link: TcpLink, deadline: float) -> None:
        self.link, self.deadline = link, deadline


class Send(Operation[bool]):
    """Hand octets to the kernel, all of them. Raises SendFailed, with TimeoutError at the deadline.

    The answer is True. With `at_once`, octets go only if the kernel has room for the first of them
    now. If not, nothing is handed over; once there is room the answer is False, and the caller, who
    may look first whether the server spoke, sends again. `data` is what is left to be handed over,
    and `handed` says whether some of it was.
    """

    __slots__ = ("at_once", "data", "handed", "link")

    def __init__(self, link: TcpLink, data: bytes | memoryview, deadline: float, *, at_once: bool = False) -> None:
        self.link, self.deadline, self.at_once = link, deadline, at_once
        self.data = data
        self.handed = False

    @property
    def has_given_way(self) -> bool:
        """Whether nothing was handed over, so that the answer is False once there is room."""
        return self.at_once and not self.handed

    def failed(self, error: OSError) -> SendFailed:
        """Return the error to raise."""
        return SendFailed(error, self.handed)


class InThread(Operation[T]):
    """Call a function that may block, such as a name look-up, in another thread. Raises what it raises.

    Nobody can stop a thread: after the deadline the function goes on, and its result is dropped.
    `reads` says that it waits for nobody but our own database.
    """

    __slots__ = ("call", "reads")

    def __init__(self, call: Callable[[], T], deadline: float = inf, *, reads: bool = False) -> None:
        self.call, self.deadline, self.reads = call, deadline, reads


class Suspend(Operation[T]):
    """Wait for an answer of our own code.

    The driver gives `keep` a function. The coroutine goes on when that is called, in the driver's
    thread, with the answer. Only `loop` knows this operation.
    """

    __slots__ = ("keep",)

    def __init__(self, keep: Callable[[Callable[[T], None]], None]) -> None:
        self.keep, self.deadline = keep, inf


def captured(call: Callable[[], T]) -> Callable[[], T]:
    """Call a function; return another that returns or raises the same, as often as it is called.

    For drivers: so a result travels from one thread to another.
    """
    try:
        result = call()
    except Exception as error:  # noqa: BLE001 - it is raised in the other thread
        return _raising(error)
    except BaseException as error:  # noqa: BLE001 - meant for the thread: the other one must not end by it
        return _raising(RuntimeError(repr(error)))
    return lambda: result


def _raising(error: Exception) -> Callable[[], Any]:
    def again() -> Any:
        raise error

    return again


#: A coroutine that awaits only operations.
Conversation = Coroutine[Operation[Any], Any, T]
