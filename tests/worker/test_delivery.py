"""The delivery loop of a worker process, on a real database, journal and server."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from mailbbgun import schema
from mailbbgun.deliver.context import WorkerContext
from mailbbgun.deliver.deliver import take
from mailbbgun.deliver.transaction import Transaction
from mailbbgun.drivers.loop import Loop
from mailbbgun.routing.send_queue import SendQueue
from mailbbgun.services import build
from mailbbgun.settings.load import load
from mailbbgun.worker.delivery import DeliveryLoop
from tests import tables
from tests.smtp.peers import Dialogue, Peer
from tests.sweep.conftest import Store
from tests.waiting import PATIENCE, pause, wait_until


@dataclass
class Delivering:
    """A delivery loop that runs, and what it works on."""

    store: Store
    context: WorkerContext
    lines: SendQueue[Transaction]
    loop: Loop

    def add(self, count: int, route: str = "smarthost") -> list[UUID]:
        """Put so many messages into the send queue; return the ids of their deliveries."""
        rows = self.store.add(count, due=-5)
        taken = take(self.context, [self.store.row(row).message_id for row in rows])
        for transaction in taken:
            transaction.route = route
        self.lines.add(taken)
        return rows

    def statuses(self, rows: list[UUID]) -> Counter[str]:
        return Counter(self.store.row(row).status for row in rows)


class Polls:
    """Counts looks at epoll that did not wait, and found nothing."""

    def __init__(self, loop: Loop) -> None:
        self._inner, self.vain = loop._epoll, 0
        loop._epoll = self  # type: ignore[assignment]  # it does what epoll does

    def poll(self, wait: float) -> list[tuple[int, int]]:
        ready = self._inner.poll(wait)
        self.vain += not ready and wait <= 0.001
        return ready

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


@contextmanager
def delivering(
    folder: Path, peer: Peer, connections: int = 4, gate: dict[str, float] | None = None
) -> Iterator[Delivering]:
    services = build(
        load(
            {
                "MAILBBGUN_VAR": str(folder),
                "MAILBBGUN_HOSTNAME": "mail.example.com",
                "MAILBBGUN_SMTP_URL": f"smtp://127.0.0.1:{peer.port}?security=none",
            }
        )
    )
    tables.put_into(services.db)
    schema.upgrade(services.db)
    stop, shut = threading.Event(), gate or {}
    with closing(services), closing(Loop()) as loop:
        context = WorkerContext.open(services, uuid4(), loop.wake)
        lines = SendQueue[Transaction](
            100, lambda _: connections, gate=lambda route, _: shut.get(route, 0.0), bell=loop.wake
        )
        thread = threading.Thread(target=DeliveryLoop(context, lines, loop, connections, stop).run, daemon=True)
        thread.start()
        try:
            yield Delivering(Store(services), context, lines, loop)
        finally:
            stop.set()
            loop.wake()
            thread.join(PATIENCE)
            context.close(PATIENCE)
        assert not thread.is_alive()


def test_all_is_delivered_and_a_stop_ends_what_has_begun(tmp_path: Path) -> None:
    with Peer() as peer, delivering(tmp_path, peer) as worker:
        rows = worker.add(30)
        wait_until(lambda: worker.statuses(rows) == {"DELIVERED": 30}, "thirty deliveries")
        assert len(peer.messages) == 30
        assert peer.connections <= 4
    assert not list(tmp_path.rglob("*.journal"))


def test_what_has_begun_when_it_is_told_to_stop_is_delivered(tmp_path: Path) -> None:
    begun, go = threading.Event(), threading.Event()

    def slow(dialogue: Dialogue) -> None:
        begun.set()
        assert go.wait(PATIENCE)
        dialogue.normal(dialogue)

    with Peer(at={"dot": slow}) as peer:
        with delivering(tmp_path, peer) as worker:
            rows = worker.add(1)
            assert begun.wait(PATIENCE)
            threading.Timer(0.2, go.set).start()
        assert len(peer.messages) == len(rows) == 1
    assert not list(tmp_path.rglob("*.journal"))  # its result was written


def test_an_error_of_ours_ends_one_transaction_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Peer() as peer, delivering(tmp_path, peer) as worker:
        enter, broken = worker.context.breaker.enter, []

        def fails(transaction: Transaction) -> float:
            if not broken:
                broken.append(transaction)
                raise RuntimeError("a bug")
            return enter(transaction)

        monkeypatch.setattr(worker.context.breaker, "enter", fails)
        rows = worker.add(10)
        wait_until(lambda: worker.statuses(rows)["DELIVERED"] == 9, "nine deliveries")
        assert [one.getMessage() for one in caplog.records if one.levelname == "ERROR"] == ["delivery_failed"]
        (transaction,) = broken
        assert (transaction.limit, len(worker.context.leases.in_hand())) == (0.0, 1)  # its lease is let run out


@pytest.mark.parametrize("connections", [1, 4])
def test_a_loop_that_can_do_nothing_rests(tmp_path: Path, connections: int) -> None:
    go, begun = threading.Event(), threading.Semaphore(0)

    def stalls(dialogue: Dialogue) -> None:
        begun.release()
        assert go.wait(PATIENCE)
        dialogue.normal(dialogue)

    gate = {"shut.test": 0.05}
    with Peer(at={"dot": stalls}) as peer, delivering(tmp_path, peer, connections, gate) as worker:
        rows = worker.add(1, route="shut.test")
        wait_until(lambda: "shut.test" in worker.lines._shut, "a gate that is shut")
        rows += worker.add(connections + 1)
        for _ in range(connections):  # all are busy
            assert begun.acquire(timeout=PATIENCE)
        polls = Polls(worker.loop)
        pause(0.5)
        vain = polls.vain
        go.set()
        assert vain < 50
        gate["shut.test"] = 0.0
        wait_until(lambda: worker.statuses(rows)["DELIVERED"] == len(rows), "all mail")
