"""The loop itself: other threads, and many connections."""

import random
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mailbbgun.drivers.loop import THREADS, Loop
from mailbbgun.drivers.operations import Connect, InThread, Receive, Send, Suspend
from tests.smtp.drivers import run_on, soon, to_the_end
from tests.smtp.files import many_files
from tests.smtp.many import GREETING, Echo
from tests.waiting import PATIENCE, wait_until

LOOPBACK = "127.0.0.1"


# -- other threads


def test_calls_from_many_threads_are_all_made_in_the_loops_thread(driver: Loop) -> None:
    made: list[tuple[int, int, int]] = []

    def calls(thread: int) -> None:
        for number in range(1000):
            driver.call(lambda number=number: made.append((thread, number, threading.get_ident())))
            driver.wake()

    threads = [threading.Thread(target=calls, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    while len(made) < 8000:
        driver.turn(PATIENCE)  # a call that is lost ends it much too late
    for thread in threads:
        thread.join()
    assert {ident for *_, ident in made} == {threading.get_ident()}
    for one in range(8):
        assert [number for thread, number, _ in made if thread == one] == list(range(1000))


def test_a_turn_that_is_woken_ends(driver: Loop) -> None:
    for _ in range(200):
        waker = threading.Thread(target=driver.wake)
        waker.start()
        driver.turn(PATIENCE)
        waker.join()


def test_a_thread_returns_raises_or_is_given_up(driver: Loop) -> None:
    release, ended = threading.Event(), threading.Event()

    def slow() -> str:
        release.wait(PATIENCE)
        ended.set()
        return "too late"

    async def asks() -> list[object]:
        link = await Connect(LOOPBACK, echo.port, soon())
        told: list[object] = [await InThread(lambda: 42)]
        try:
            await InThread(lambda: int("x"))
        except ValueError as error:
            told.append(str(error))
        try:
            await InThread(slow, soon(0.05))
        except TimeoutError:
            told.append("given up")
        release.set()
        assert ended.wait(PATIENCE)
        told.append(await Receive(link, soon()))  # not what the thread returned meanwhile
        link.close()
        return told

    with Echo() as echo:
        told = run_on(driver, asks())
    assert told == [42, "invalid literal for int() with base 10: 'x'", "given up", GREETING]


def test_functions_that_block_do_not_stop_the_loop(driver: Loop) -> None:
    release = threading.Event()

    async def blocks() -> None:
        assert await InThread(lambda: release.wait(PATIENCE))
        done.append("blocked")

    async def talks() -> None:
        link = await Connect(LOOPBACK, echo.port, soon())
        assert await Receive(link, soon()) == GREETING
        link.close()
        done.append("talked")
        release.set()

    done: list[str] = []
    with Echo() as echo:
        for _ in range(2 * THREADS):
            driver.start(blocks())
        driver.start(talks())
        to_the_end(driver)
    assert done == ["talked", *["blocked"] * 2 * THREADS]


def test_an_answer_given_at_once_or_twice_is_taken_once(driver: Loop) -> None:
    kept: list[Callable[[int], None]] = []

    def at_once(answer: Callable[[int], None]) -> None:
        answer(1)
        answer(2)

    async def waits() -> list[int]:
        return [await Suspend(at_once), await Suspend(kept.append), await Suspend(kept.append)]

    async def collects() -> None:
        told.extend(await waits())

    told: list[int] = []
    driver.start(collects())
    first = kept.pop()
    first(3)
    first(4)  # of the operation before: nobody takes it
    kept.pop()(5)
    assert (told, len(driver)) == ([1, 3, 5], 0)


# -- many connections


def test_numbers_of_closed_connections_are_used_again_and_mixed_up_by_none(driver: Loop) -> None:
    async def talks(name: int) -> None:
        for turn in range(10):
            link = await Connect(LOOPBACK, echo.port, soon())
            said = b"%d of %d;" % (turn, name)
            if chance.random() < 0.3:
                link.abort()  # before its greeting
                continue
            assert await Receive(link, soon()) == GREETING
            await Send(link, said, soon())
            if chance.random() < 0.3:
                link.close()  # before its answer
                continue
            heard = b""
            while len(heard) < len(said):
                heard += await Receive(link, soon())
            assert heard == said
            link.close()
        done.append(name)

    chance, done = random.Random(7), list[int]()
    with Echo() as echo:
        for name in range(60):
            driver.start(talks(name))
        to_the_end(driver)
    assert sorted(done) == list(range(60))


def test_fifteen_hundred_connections_at_once_cost_little_memory(driver: Loop) -> None:
    async def holds() -> None:
        link = await Connect(LOOPBACK, echo.port, soon())
        assert await Receive(link, soon()) == GREETING
        await Suspend(waiting.append)
        await Send(link, b"ping", soon())
        assert await Receive(link, soon()) == b"ping"
        link.close()
        ended.append(True)

    def resident() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

    count, waiting, ended = 1500, list[Callable[[None], None]](), list[bool]()
    with many_files() as allowed, Echo() as echo:
        count = min(count, (allowed - 200) // 2)
        before = resident()
        for _ in range(count):
            driver.start(holds())
        while len(waiting) < count:
            driver.turn(1.0)
        assert (echo.most, len(driver)) == (count, count)
        assert resident() - before < 40
        for answer in waiting:
            answer(None)
        to_the_end(driver)
        assert len(ended) == count
        wait_until(lambda: not echo._open, "the end of all connections")


def test_a_thread_that_ends_after_the_loop_was_closed_disturbs_nobody() -> None:
    async def asks() -> None:
        await InThread(lambda: begun.set() or release.wait(PATIENCE))

    begun, release = threading.Event(), threading.Event()
    loop = Loop()
    loop.start(asks())
    assert begun.wait(PATIENCE)
    bell, threads = loop._bell, loop._threads
    loop.close()
    ends: list[socket.socket] = []
    while bell not in [end.fileno() for end in ends]:  # the bell's number is another's now
        ends += socket.socketpair()
    release.set()
    threads.shutdown(wait=True)
    for end in ends:
        end.setblocking(False)
        with pytest.raises(BlockingIOError):
            end.recv(8)
    for end in ends:
        end.close()
