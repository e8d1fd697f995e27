"""Clients take turns: networks first, then connections; the one that has used least is next."""

from collections import Counter
from dataclasses import replace
from statistics import median

import pytest

from mailbbgun.server.registry import ClientConnection
from mailbbgun.server.turns import LEAD, REMEMBERED, Share, Turns
from tests.server.harness import CHUNKED, GET, LIMITS, Harness


class Client:
    """A connection that wants its next turn at once, and takes ``cost`` seconds for it."""

    def __init__(self, network: str | None, cost: float) -> None:
        self.network, self.cost, self.share = network, cost, Share()


def used(turns: Turns[Client], seconds: float) -> Counter[Client]:
    """Let clients take turns for so many seconds. Return what each has used."""
    found: Counter[Client] = Counter()
    while seconds > 0:
        turn = turns.take()
        client = turn.entry
        turns.add(client.network, client.share, client)
        turns.charge(turn, client.cost)
        found[client] += client.cost  # type: ignore[assignment]  # seconds
        seconds -= client.cost
    return found


def waiting(clients: list[Client]) -> Turns[Client]:
    turns: Turns[Client] = Turns()
    for client in clients:
        turns.add(client.network, client.share, client)
    return turns


def test_connections_of_one_network_get_equal_time_whatever_a_turn_of_theirs_costs() -> None:
    clients = [Client("a", cost) for cost in (0.001, 0.003, 0.01)]
    found = used(waiting(clients), 30)
    assert [found[client] for client in clients] == pytest.approx([10, 10, 10], rel=0.01)


@pytest.mark.parametrize("many", [2, 500])
def test_a_network_of_many_connections_gets_no_more_than_one_of_a_single_one(many: int) -> None:
    single = Client("b", 0.001)
    found = used(waiting([Client("a", 0.001) for _ in range(many)] + [single]), 20)
    assert found[single] == pytest.approx(10, rel=0.01)


@pytest.mark.parametrize("network", ["a", "b", None])
def test_a_new_client_is_next_beside_many_busy_ones(network: str | None) -> None:
    turns = waiting([Client("a", 0.001) for _ in range(500)])
    used(turns, 5)
    new = Client(network, 0.001)
    turns.add(new.network, new.share, new)
    assert turns.take().entry is new


def test_one_that_was_idle_for_long_is_ahead_by_no_more_than_the_lead() -> None:
    idle, busy = Client("a", LEAD / 10), Client("a", LEAD / 10)
    turns = waiting([idle, busy])
    used(turns, 10 * LEAD)
    turns = waiting([busy])
    used(turns, 1000 * LEAD)
    turns.add(idle.network, idle.share, idle)
    found = used(turns, 10 * LEAD)
    assert found[idle] - found[busy] <= 1.5 * LEAD


def test_networks_of_which_nothing_waits_are_forgotten_in_the_end() -> None:
    turns = waiting([kept := Client("kept", 1)])
    for number in range(5 * REMEMBERED):
        turns.add(f"192.0.2.{number}", Share(), Client(None, 1))
        while (turn := turns.take()).entry is not kept:
            turns.charge(turn, 1)
            if not turns:
                break
        if turn.entry is kept:
            turns.add("kept", kept.share, kept)
            turns.charge(turn, 1)
    assert len(turns._networks) <= 2 * REMEMBERED + 2
    while turns:
        found = turns.take().entry
    assert not turns
    assert found is kept or found.network is None


@pytest.mark.parametrize("sent", [CHUNKED + b"c" + b"\r\n1\r\n{" * 9000, GET * 1500], ids=["chunks", "requests"])
def test_a_new_client_waits_for_few_of_many_busy_connections(sent: bytes) -> None:
    """All are of one address. Each turn of a busy connection counts as one step."""
    steps: list[ClientConnection] = []
    with Harness(replace(LIMITS, connections=500, connections_per_address=500)) as harness:
        work = harness.clients._work
        harness.clients._work = lambda connection: (steps.append(connection), work(connection))  # type: ignore[assignment, method-assign, func-returns-value]
        busy = [harness.connect() for _ in range(200)]
        for line in busy:
            line.setblocking(False)
            line.send(sent)
        while len(steps) < 600:  # all have had their first turn
            harness.poller.turn(0.01)
        waited = []
        for _ in range(15):
            new = harness.connect()
            before = len(steps)
            new.sendall(GET)
            turned: list[ClientConnection] = []
            while not any(one.client == new.getsockname() for one in turned):
                harness.poller.turn(0.01)
                turned = steps[before:]
            waited.append([one.client for one in turned].index(new.getsockname()))
            assert new.recv(100).startswith(b"HTTP/1.1 200")
            new.close()
        assert median(waited) < len(busy) / 10
