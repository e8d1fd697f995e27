"""A round: which turns fail, and what becomes of the others."""

import pytest
from tqdm import tqdm

from bench import BenchError
from bench.options import Options
from bench.run import one_round
from bench.turns import Turn

OPTIONS = Options(
    messages=100, rounds=2, connections=1, configurations=(), peers=(), slow_sink=False, sink="auto", settings={}
)


def broken():
    raise BenchError("it died")


def one_and_its_parts(optional):
    return [
        Turn("peer", "peer", 1, optional, broken),
        Turn("peer", "peer, slow", 1, optional, lambda: {"slow_rate": 1.0}),
        Turn("ours", "ours", 1, False, lambda: {"send_rate": 2.0}),
        Turn("ours", "ours, slow", 1, False, lambda: {"slow_rate": 3.0}),
    ]


def test_a_peer_that_fails_is_named_and_the_others_go_on():
    missing = {}
    assert one_round(one_and_its_parts(True), 0, OPTIONS, tqdm(disable=True), missing) == {
        "ours": {"send_rate": 2.0, "slow_rate": 3.0}
    }
    assert missing == {"peer": "peer: it died"}
    assert one_round(one_and_its_parts(True), 1, OPTIONS, tqdm(disable=True), missing) == {
        "ours": {"send_rate": 2.0, "slow_rate": 3.0}
    }


def test_without_ours_there_is_no_run():
    with pytest.raises(BenchError, match="it died"):
        one_round(one_and_its_parts(False), 0, OPTIONS, tqdm(disable=True), {})
