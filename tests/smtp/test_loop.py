"""The loop itself: deadlines, errors and fairness."""

import random
import select
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import inf
from pathlib import Path

import pytest

from mailbbgun.drivers.loop import Loop
from mailbbgun.drivers.operations import Connect, InThread, Receive, Send, SendFailed, Suspend, TcpLink
from mailbbgun.relays.pool import Pool
from mailbbgun.smtp.endpoint import Endpoint
from tests.smtp.drivers import run, run_on, soon, to_the_end, with_each_driver
from tests.smtp.many import Echo
from tests.smtp.peers import PATIENT, Peer
from tests.waiting import PATIENCE, bounded, pause

LOOPBACK = "127.0.0.1"


@contextmanager
def full_listener() -> Iterator[int]:
    """Yield a port on which no further connection is accepted."""
    with socket.create_server((LOOPBACK, 0), backlog=0) as full:
        port = full.getsockname()[1]
        with socket.create_connection((LOOPBACK, port)):
            yield port


@contextmanager
def sink() -> Iterator[tuple[int, list[int]]]:
    """Yield a port, and a list with the number of octets that each connection was sent in all."""

    def read() -> None:
        connection, _ = listener.accept()
        count = 0
        with connection:
            while data := connection.recv(1 << 20):
                count += len(data)
        taken.append(count)

    taken: list[int] = []
    with socket.create_server((LOOPBACK, 0)) as listener:
        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        yield listener.getsockname()[1], taken
        thread.join(PATIENCE)


# -- deadlines


def test_operations_end_in_the_order_of_their_deadlines(driver: Loop) -> None:
    ended: list[str] = []

    async def late(name: str, operation: Callable[[TcpLink, float], object], deadline: float) -> None:
        link = await Connect(LOOPBACK, deaf.getsockname()[1], soon())
        try:
            await operation(link, deadline)  # type: ignore[misc]  # it is an Operation
        except TimeoutError:
            ended.append(name)
        except SendFailed as failed:
            ended.append(name if isinstance(failed.error, TimeoutError) and failed.handed else repr(failed))
        link.abort()

    release = threading.Event()
    with socket.create_server((LOOPBACK, 0)) as deaf, full_listener() as full:
        first = soon(0.2)
        operations: dict[str, Callable[[TcpLink, float], object]] = {
            "receive": lambda link, deadline: Receive(link, deadline),
            "connect": lambda _link, deadline: Connect(LOOPBACK, full, deadline),
            "send": lambda link, deadline: Send(link, b"x" * 20_000_000, deadline),
            "thread": lambda _link, deadline: InThread(lambda: release.wait(PATIENCE), deadline),
        }
        names = [*operations] * 3
        random.Random(1).shuffle(names)
        for place, name in sorted(enumerate(names), key=lambda _: random.random()):
            driver.start(late(f"{place}", operations[name], first + place / 50))
        to_the_end(driver)
        release.set()
    assert ended == [str(place) for place in range(len(names))]


def test_what_is_there_when_the_deadline_is_noticed_is_taken(driver: Loop) -> None:
    async def receive(link: TcpLink) -> None:
        told.append(await Receive(link, soon(0.05)))
        link.close()

    async def connect() -> TcpLink:
        return await Connect(LOOPBACK, listener.getsockname()[1], soon())

    told: list[bytes] = []
    with socket.create_server((LOOPBACK, 0)) as listener:
        driver.start(receive(run_on(driver, connect())))
        with listener.accept()[0] as server:
            server.send(b"in time")
            pause(0.1)  # the process stood still, say
            to_the_end(driver)
    assert told == [b"in time"]


@with_each_driver
def test_a_server_that_never_rests_does_not_stretch_a_deadline(driver: Loop | None) -> None:
    def floods() -> None:
        with suppress(OSError), listener.accept()[0] as server:
            while True:
                server.send(b"x" * 100_000)

    async def receive() -> int:
        link, count = await Connect(LOOPBACK, listener.getsockname()[1], soon()), 0
        deadline = soon(0.1)
        try:
            while True:
                count += len(await Receive(link, deadline))
        except TimeoutError:
            link.abort()
        return count

    with socket.create_server((LOOPBACK, 0)) as listener:
        thread = threading.Thread(target=floods, daemon=True)
        thread.start()
        with bounded("a flood"):
            assert run(receive()) > 0
        thread.join(PATIENCE)


def test_a_connection_that_is_refused_or_whose_time_is_up_is_closed(driver: Loop) -> None:
    async def connect(port: int, deadline: float) -> str:
        try:
            await Connect(LOOPBACK, port, deadline)
        except OSError as error:
            return type(error).__name__
        return ""

    before = len(list(Path("/proc/self/fd").iterdir()))
    with socket.create_server((LOOPBACK, 0)) as closed:
        port = closed.getsockname()[1]
    with full_listener() as full:
        assert run_on(driver, connect(port, soon())) == "ConnectionRefusedError"
        assert run_on(driver, connect(full, soon(0.05))) == "TimeoutError"
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# -- errors


def test_an_error_ends_its_own_coroutine_alone(driver: Loop, caplog: pytest.LogCaptureFixture) -> None:
    async def fails(port: int, after: int) -> None:
        link = await Connect(LOOPBACK, port, soon())
        for _ in range(after):
            await Receive(link, soon())
        link.close()
        raise KeyError("a bug")

    async def works(port: int) -> None:
        link = await Connect(LOOPBACK, port, soon())
        await Receive(link, soon())
        for number in range(20):
            await Send(link, b"%d" % number, soon())
            assert await Receive(link, soon()) == b"%d" % number
        link.close()
        done.append(port)

    done: list[int] = []
    with Echo() as echo:
        for number in range(10):
            driver.start(works(echo.port))
            driver.start(fails(echo.port, number % 2))
        to_the_end(driver)
    assert len(done) == 10
    assert Counter(caplog.messages) == {"conversation_failed": 10}


def test_what_is_no_operation_or_anothers_link_is_the_coroutines_own_error(driver: Loop) -> None:
    async def awaits(what: object) -> str:
        try:
            await what  # type: ignore[misc]  # that is the error
        except (TypeError, AssertionError) as error:
            return type(error).__name__
        return ""

    def refuses(_answer: object) -> None:
        raise TypeError("nowhere to keep it")

    assert run_on(driver, awaits(Suspend(refuses))) == "TypeError"
    assert run_on(driver, awaits(Receive(object(), soon()))) == "AssertionError"  # type: ignore[arg-type]  # that is the error
    assert len(driver) == 0


def test_a_call_that_fails_does_not_end_the_loop(driver: Loop, caplog: pytest.LogCaptureFixture) -> None:
    called: list[int] = []
    driver.call(lambda: called.append(1))
    driver.call(lambda: called.append(1 // 0))
    driver.call(lambda: called.append(2))
    driver.turn(0.0)
    assert (called, caplog.messages) == ([1, 2], ["call_failed"])


def test_a_link_that_is_closed_fails_at_once(driver: Loop) -> None:
    async def uses(operation: Callable[[TcpLink], object]) -> str:
        link = await Connect(LOOPBACK, echo.port, soon())
        await Receive(link, soon())
        link.close()
        others = [await Connect(LOOPBACK, echo.port, soon()) for _ in range(3)]  # one of them gets its number
        try:
            await operation(link)  # type: ignore[misc]  # it is an Operation
        except (OSError, SendFailed) as error:
            return str(error)
        finally:
            for other in others:
                other.close()
        return ""

    with Echo() as echo:
        assert "Bad file descriptor" in run_on(driver, uses(lambda link: Receive(link, inf)))
        assert "Bad file descriptor" in run_on(driver, uses(lambda link: Send(link, b"x", inf)))


# -- fairness


def test_much_data_for_a_fast_sink_makes_way_for_others(driver: Loop) -> None:
    async def send(operations: int, size: int) -> None:
        link = await Connect(LOOPBACK, port, soon())
        for _ in range(operations):
            await Send(link, b"x" * size, soon())
        link.close()

    for operations, size, least in ((1, 20_000_000, 19), (1000, 100, 62)):
        with sink() as (port, taken):
            driver.start(send(operations, size))
            assert to_the_end(driver) >= least
        assert taken == [operations * size]


def test_one_that_is_always_ready_holds_back_nobody(driver: Loop) -> None:
    async def floods() -> None:
        link = await Connect(LOOPBACK, port, soon())
        while not done:
            await Send(link, b"x" * 100_000, soon())
        link.close()

    async def talks() -> None:
        link = await Connect(LOOPBACK, echo.port, soon())
        await Receive(link, soon())
        for _ in range(50):
            await Send(link, b"ping", soon())
            await Receive(link, soon())
        link.close()
        done.append(True)

    done: list[bool] = []
    with sink() as (port, _), Echo() as echo:
        driver.start(floods())
        driver.start(talks())
        to_the_end(driver)
    assert done == [True]


def test_a_server_that_speaks_on_an_idle_connection_wakes_nobody_twice(driver: Loop) -> None:
    class Counting:
        """Counts what epoll reports."""

        def __init__(self, inner: select.epoll) -> None:
            self._inner, self.reported = inner, 0

        def poll(self, wait: float) -> list[tuple[int, int]]:
            ready = self._inner.poll(wait)
            self.reported += len(ready)
            return ready

        def __getattr__(self, name: str) -> object:
            return getattr(self._inner, name)

    with Peer() as peer:
        pool = Pool(PATIENT, "client.test")
        endpoint = Endpoint(LOOPBACK, peer.port, "none")
        connection = run_on(driver, pool.checkout(endpoint))
        run_on(driver, pool.checkin(connection))
        driver._epoll = counting = Counting(driver._epoll)  # type: ignore[assignment]  # it counts, too
        for unasked in (b"250 more\r\n", b"250 and more\r\n", b""):
            for sock in list(peer._open):
                sock.sendall(unasked) if unasked else sock.shutdown(socket.SHUT_RDWR)
            for _ in range(10):
                driver.turn(0.01)
        assert counting.reported <= 1
        assert not connection.alive()
        fresh = run_on(driver, pool.checkout(endpoint))
        assert fresh is not connection
        run_on(driver, fresh.quit())
