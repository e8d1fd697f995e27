"""Connections are kept, reused, and closed by count, age and idleness."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from mailbbgun.drivers.loop import Loop
from mailbbgun.relays.client import SMTPConnection
from mailbbgun.relays.pool import Pool
from mailbbgun.smtp.endpoint import Endpoint
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import Delivered
from tests.smtp.behaviours import silent
from tests.smtp.drivers import awaited, quit_, run, sent
from tests.smtp.peers import PATIENT, Dialogue, Peer
from tests.waiting import growing

ONE = Envelope("a@a.test", ("b@b.test",), b"x\r\n")
TIMEOUTS = replace(PATIENT, quit=0.2)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def pooled(peer: Peer, clock: Clock | None = None, **limits: float) -> Iterator[tuple[Pool, Endpoint]]:
    pool = Pool(TIMEOUTS, "client.test", clock=clock or time.monotonic, **limits)
    yield pool, Endpoint("127.0.0.1", peer.port, "none")
    run(pool.close_all())


def use(pool: Pool, endpoint: Endpoint) -> SMTPConnection:
    connection = run(pool.checkout(endpoint))
    outcomes = sent(connection, ONE)
    assert isinstance(outcomes["b@b.test"], Delivered)
    run(pool.checkin(connection))
    return connection


def test_a_connection_is_reused_with_nothing_between_messages() -> None:
    with Peer() as peer, pooled(peer, Clock()) as (pool, endpoint):
        for _ in range(5):
            use(pool, endpoint)
        assert (peer.connections, len(peer.messages), peer.commands.count(b"RSET")) == (1, 5, 0)
    assert peer.commands[-1] == b"QUIT"


def test_a_connection_that_rested_is_asked_whether_it_lives() -> None:
    clock = Clock()
    with Peer() as peer, pooled(peer, clock) as (pool, endpoint):
        for _ in range(3):
            use(pool, endpoint)
            clock.now += 2
        assert (peer.connections, peer.commands.count(b"RSET")) == (1, 2)


def test_a_connection_carries_no_more_than_its_messages() -> None:
    with Peer() as peer, pooled(peer, max_messages=3) as (pool, endpoint):
        for _ in range(7):
            use(pool, endpoint)
        assert (peer.connections, peer.commands.count(b"QUIT")) == (3, 2)


@pytest.mark.parametrize(("seconds", "connections"), [(29, 1), (31, 2)])
def test_a_connection_idle_too_long_is_not_used_again(seconds: float, connections: int) -> None:
    clock = Clock()
    with Peer() as peer, pooled(peer, clock) as (pool, endpoint):
        use(pool, endpoint)
        clock.now += seconds
        use(pool, endpoint)
        assert peer.connections == connections


def test_a_connection_is_used_for_its_age_only() -> None:
    clock = Clock()
    with Peer() as peer, pooled(peer, clock, max_age=100) as (pool, endpoint):
        for _ in range(6):
            use(pool, endpoint)
            clock.now += 25
        assert peer.connections == 2


def test_reaping_closes_the_idle_ones_and_keeps_the_others() -> None:
    clock = Clock()
    with Peer() as peer, pooled(peer, clock) as (pool, endpoint):
        first, second = run(pool.checkout(endpoint)), run(pool.checkout(endpoint))
        run(pool.checkin(first))
        clock.now += 20
        second.last_used = clock.now
        run(pool.checkin(second))
        clock.now += 15
        assert (run(pool.reap()), run(pool.reap())) == (1, 0)
        assert not first.usable
        assert run(pool.checkout(endpoint)) is second
        quit_(second)


def test_a_connection_the_server_closed_meanwhile_is_not_handed_out() -> None:
    def leave(connection: SMTPConnection, peer: Peer) -> None:
        for sock in list(peer._open):
            sock.sendall(b"421 4.4.2 idle too long\r\n")
            sock.close()

    with Peer() as peer, pooled(peer) as (pool, endpoint):
        leave(use(pool, endpoint), peer)
        use(pool, endpoint)
        assert (peer.connections, len(peer.messages)) == (2, 2)


def test_a_broken_connection_is_not_kept() -> None:
    with Peer() as peer, pooled(peer) as (pool, endpoint):
        connection = run(pool.checkout(endpoint))
        connection.abort()
        run(pool.checkin(connection))
        use(pool, endpoint)
        assert peer.connections == 2


def test_endpoints_do_not_share_connections() -> None:
    with Peer(users={"u": "p"}) as peer, pooled(peer) as (pool, endpoint):
        use(pool, endpoint)
        use(pool, Endpoint("127.0.0.1", peer.port, "none", "u", "p"))
        assert peer.connections == 2


def test_no_more_idle_connections_are_held_than_allowed() -> None:
    with Peer() as peer, pooled(peer, keep=2) as (pool, endpoint):
        held = [run(pool.checkout(endpoint)) for _ in range(4)]
        for connection in held:
            run(pool.checkin(connection))
        assert all(connection.usable for connection in held)  # nobody waits here for the server of another
        run(pool.reap())
        assert [connection.usable for connection in held] == [False, False, True, True]


def test_many_silent_servers_cost_one_goodbye() -> None:
    seen: list[str] = []

    def told(dialogue: Dialogue) -> None:
        seen.append("told")
        try:
            silent(dialogue)
        finally:
            seen.append("closed")

    for patience in growing(0.2):
        seen.clear()
        with Peer(at={"quit": told}) as peer:
            pool, endpoint = (
                Pool(replace(PATIENT, quit=patience), "client.test"),
                Endpoint("127.0.0.1", peer.port, "none"),
            )
            held = [run(pool.checkout(endpoint)) for _ in range(6)]
            for connection in held:
                run(pool.checkin(connection))
            run(pool.close_all())
            late = run(pool.checkout(endpoint))
            run(pool.checkin(late))
            assert not late.usable
        if "closed" not in seen[:6]:
            return  # the last server got its QUIT before the first was given up
    raise AssertionError(seen)


def test_conversations_on_one_loop_never_hold_the_same_connection(driver: Loop) -> None:
    async def work() -> None:
        for _ in range(10):
            connection = await pool.checkout(endpoint)
            assert connection not in held
            held.add(connection)
            most.append(len(held))
            (outcome,) = (await connection.send(ONE, awaited(lambda _: True), awaited(lambda *_: None))).values()
            assert isinstance(outcome, Delivered)
            held.discard(connection)
            await pool.checkin(connection)
        done.append(True)

    held, most, done = set[SMTPConnection](), list[int](), list[bool]()
    with Peer() as peer, pooled(peer) as (pool, endpoint):
        for _ in range(20):
            driver.start(work())
        while len(driver):
            driver.turn(1.0)
        assert (len(done), len(peer.messages)) == (20, 200)
        assert max(most) <= peer.connections <= 20
        assert max(most) > 1
