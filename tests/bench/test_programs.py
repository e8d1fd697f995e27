"""The programs that send straight into the sink: every message arrives once."""

import pytest

from bench import BenchError
from bench.processes.clients import Clients
from bench.processes.sink import Sink


@pytest.fixture(scope="module")
def clients():
    with Clients() as clients:
        yield clients


@pytest.mark.parametrize("program", ["programs.pipelined", "programs.source", "programs.threads"])
@pytest.mark.parametrize(("count", "connections"), [(1, 1), (50, 7), (300, 40)])
def test_everything_arrives_once(clients, program, count, connections):
    with Sink("asyncio") as sink:
        figures = clients.run(program, sink.port, count, connections)
        assert sink.count() == count
        assert figures["cpu"] > 0


@pytest.mark.parametrize(("count", "connections"), [(1, 1), (300, 40)])
def test_what_is_submitted_arrives_once(clients, count, connections):
    with Sink("asyncio") as sink:
        clients.run("programs.submit", sink.port, 0, count, connections)
        assert sink.count() == count


@pytest.mark.parametrize("program", ["programs.pipelined", "programs.source", "programs.threads"])
def test_a_sink_that_is_not_there_is_an_error(clients, program):
    with Sink("asyncio") as sink:
        port = sink.port
    with pytest.raises(BenchError, match=r"refused"):
        clients.run(program, port, 10, 2)
