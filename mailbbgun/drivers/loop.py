"""The driver that runs thousands of coroutines in one thread, and waits by epoll(7).

One turn of the loop resumes every coroutine whose connection is ready, whose thread has ended or
whose deadline has passed. Each then runs until it has to wait again.
"""

import errno
import logging
import os
import select
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from math import inf
from threading import get_ident
from time import monotonic
from typing import Any

from mailbbgun.drivers.link import SocketLink
from mailbbgun.drivers.operations import (
    Connect,
    Conversation,
    InThread,
    Operation,
    Receive,
    Send,
    SendFailed,
    Suspend,
    captured,
)

#: Threads for functions that may block, unless the maker of the loop names a number
#: (``worker/process.py`` does).
THREADS = 32

#: Further threads, for functions that wait only for our database: silent name servers do not hold them up.
READERS = 4

#: Operations of one coroutine in a turn. One that sends much to a fast server makes way for others.
MOST_IN_A_TURN = 16

log = logging.getLogger("mailbbgun.loop")


class _Task:
    """A coroutine, the operation that it waits for, that operation's deadline, and its link if it has one."""

    __slots__ = ("coroutine", "deadline", "link", "operation")

    def __init__(self, coroutine: Conversation[None]) -> None:
        self.coroutine = coroutine
        self.operation: Operation[Any] | None = None
        self.deadline = inf
        self.link: _Link | None = None

    def waits_no_more(self) -> None:
        if self.link is not None:
            self.link.task = None
        self.link, self.operation, self.deadline = None, None, inf


class _Link(SocketLink):
    """A link that knows who waits for it, and for which events epoll watches it (0: not at all)."""

    __slots__ = ("events", "file", "task")

    def __init__(self, address: str, port: int) -> None:
        super().__init__(address, port)
        self.file = self.socket.fileno()
        self.events = 0
        self.task: _Task | None = None


class Loop:
    """Runs coroutines. All methods but `wake` and `call` belong to the thread that calls `turn`."""

    def __init__(self, threads: int = THREADS) -> None:
        """`threads`: how many functions that may block run at once."""
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._bell, select.EPOLLIN)
        self._rung = False
        self._tasks: set[_Task] = set()
        self._links: dict[int, _Link] = {}  # by file descriptor; a closed one stays until its number is used again
        self._calls: deque[Callable[[], None]] = deque()
        self._next_deadline = inf  # no task's deadline is earlier; monotonic seconds
        self._threads = ThreadPoolExecutor(threads, "look-up")
        self._readers = ThreadPoolExecutor(READERS, "reader")
        #: When the last turn began to resume coroutines, in monotonic seconds, and the thread of it.
        self.turned, self.thread = monotonic(), 0

    def __len__(self) -> int:
        """Return how many coroutines have begun and not ended."""
        return len(self._tasks)

    def start(self, coroutine: Conversation[None]) -> None:
        """Begin to run a coroutine. An error that it does not handle ends only itself, and is logged."""
        task = _Task(coroutine)
        self._tasks.add(task)
        self._resume(task)

    def wake(self) -> None:
        """End the wait of `turn`. Thread-safe."""
        if not self._rung:
            self._rung = True
            os.eventfd_write(self._bell, 1)

    def call(self, function: Callable[[], None]) -> None:
        """Call a function in the loop's thread, in its next turn. Thread-safe."""
        self._calls.append(function)
        self.wake()

    def close(self) -> None:
        """Close the loop's files. Coroutines that have not ended are dropped."""
        self._rung = True  # a thread that ends later rings no more: the number may be another file's then
        self._epoll.close()
        os.close(self._bell)
        for threads in (self._threads, self._readers):
            threads.shutdown(wait=False)

    def turn(self, longest: float) -> None:
        """Wait until something is ready, at most `longest` seconds, and resume all that can go on."""
        wait = 0.0 if self._calls else max(0.0, min(longest, self._next_deadline - monotonic()))
        ready = self._epoll.poll(wait)
        self.turned, self.thread = monotonic(), get_ident()
        for file, _ in ready:
            if file == self._bell:
                os.eventfd_read(self._bell)
                self._rung = False  # before the calls are looked at: a later call rings again
            else:
                self._is_ready(self._links[file])
        for _ in range(len(self._calls)):
            try:
                self._calls.popleft()()
            except Exception:
                log.exception("call_failed")
        if self._next_deadline <= self.turned:
            self._end_late()

    def _is_ready(self, link: _Link) -> None:
        task = link.task
        if task is None:  # nobody waits for it now: it would be reported in each turn
            with suppress(OSError):  # it is closed
                self._epoll.unregister(link.file)
            link.events = 0
            return
        try:
            done, answer = _tried(task.operation, link)
        except (OSError, SendFailed) as error:
            if isinstance(task.operation, Connect):
                link.close()  # the coroutine has not got it yet
            self._go_on(task, error=error)
        else:
            if done:
                self._go_on(task, answer)

    def _go_on(self, task: _Task, answer: Any = None, error: BaseException | None = None) -> None:
        """Let a coroutine go on whose operation is done."""
        task.waits_no_more()
        self._resume(task, answer, error)

    def _resume(self, task: _Task, answer: Any = None, error: BaseException | None = None) -> None:
        """Let a coroutine run until it has to wait."""
        for _ in range(MOST_IN_A_TURN):
            try:
                operation = task.coroutine.send(answer) if error is None else task.coroutine.throw(error)
            except StopIteration:
                self._tasks.discard(task)
                return
            except Exception:
                self._tasks.discard(task)
                log.exception("conversation_failed")
                return
            answer, error = True, None  # that is the answer to a Send
            try:
                if not (isinstance(operation, Send) and _link(operation).send_now(operation)):
                    self._begin(task, operation)
                    return
            except Exception as raised:  # noqa: BLE001 - it belongs to the coroutine
                error = raised
        task.waits_no_more()
        self._calls.append(lambda: self._resume(task, answer, error))

    def _begin(self, task: _Task, operation: Operation[Any]) -> None:
        """Begin to wait for an operation. Raises OSError, or another error of its own, if it fails at once."""
        task.operation = operation
        task.deadline = operation.deadline
        if task.deadline < self._next_deadline:
            self._next_deadline = task.deadline
        if isinstance(operation, Receive):
            self._watch(task, _link(operation), select.EPOLLIN)
        elif isinstance(operation, Send):
            self._watch(task, _link(operation), select.EPOLLOUT)
        elif isinstance(operation, Suspend):
            operation.keep(lambda answer: self._answer(task, operation, lambda: answer))
        elif isinstance(operation, Connect):
            self._watch(task, _Link(operation.address, operation.port), select.EPOLLOUT)
        elif isinstance(operation, InThread):
            (self._readers if operation.reads else self._threads).submit(self._run, task, operation)
        else:
            raise TypeError(f"the loop cannot do {type(operation).__name__}")

    def _run(self, task: _Task, operation: InThread[Any]) -> None:
        """Call the function in this thread of a pool, unless the deadline has passed meanwhile."""
        if task.operation is not operation:
            return
        result = captured(operation.call)
        self.call(lambda: self._answer(task, operation, result))

    def _answer(self, task: _Task, operation: Operation[Any], result: Callable[[], Any]) -> None:
        if task.operation is not operation:  # its deadline has passed
            return
        try:
            answer = result()
        except Exception as error:  # noqa: BLE001 - it belongs to the coroutine
            self._go_on(task, error=error)
        else:
            self._go_on(task, answer)

    def _watch(self, task: _Task, link: _Link, events: int) -> None:
        if link.socket.fileno() < 0:  # its number may be another's by now
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        if link.events != events:
            if link.events:
                self._epoll.modify(link.file, events)
            else:
                self._epoll.register(link.file, events)
                self._links[link.file] = link
            link.events = events
        link.task, task.link = task, link

    def _end_late(self) -> None:
        """End the operations whose deadline has passed."""
        late = [task for task in self._tasks if task.deadline <= self.turned]
        for task in sorted(late, key=lambda task: task.deadline):
            if task.deadline > self.turned:  # a coroutine above has resumed it meanwhile
                continue
            operation, link = task.operation, task.link
            task.waits_no_more()
            timeout = TimeoutError()
            if isinstance(operation, Connect) and link is not None:
                link.close()  # the coroutine has not got it yet
            self._resume(task, error=operation.failed(timeout) if isinstance(operation, Send) else timeout)
        self._next_deadline = min((task.deadline for task in self._tasks), default=inf)


def _tried(operation: Operation[Any] | None, link: _Link) -> tuple[bool, Any]:
    """Go on with an operation whose link is ready; return whether it is done, and its answer."""
    if isinstance(operation, Receive):
        data = link.receive_now()
        return data is not None, data
    if isinstance(operation, Send):
        return (True, False) if operation.has_given_way else (link.send_now(operation), True)
    return link.is_connected(), link


def _link(operation: Receive | Send) -> _Link:
    assert isinstance(operation.link, _Link)  # made by this loop
    return operation.link
