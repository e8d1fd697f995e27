"""Some scenarios of ``bin/chaos``, with fixed seeds and few messages."""

import random

import pytest

from tests.chaos.round import Round
from tests.chaos.scenarios import SCENARIOS
from tests.chaos.scenarios.links import commit_reply_cut, dot_reply_cut

MESSAGES = 60


@pytest.fixture
def round_(request, real_settings, postgresql, rabbitmq):
    return Round(random.Random(request.param), real_settings, postgresql, rabbitmq, MESSAGES)


@pytest.mark.long
@pytest.mark.parametrize(("round_", "link"), [(1, "api-database"), (0, "worker-database")], indirect=["round_"])
def test_a_commit_whose_reply_is_lost_stores_each_message_once_and_claims_none_for_ever(round_, link):
    commit_reply_cut(round_)
    assert f"{link}, 0 cut" not in round_.description
    assert link in round_.description


@pytest.mark.long
@pytest.mark.parametrize("round_", [1], indirect=True)
def test_a_reply_to_the_dot_that_is_lost_is_marked_and_with_hold_never_sent_again(round_):
    dot_reply_cut(round_)
    assert "ON_UNKNOWN=hold" in round_.description
    assert round_.figures.unknown == round_.figures.held > 0
    assert round_.figures.copies == 0


@pytest.mark.long
@pytest.mark.parametrize("round_", [1], indirect=True)
def test_thirty_passes_of_requeue_pending_leave_at_most_two_hints_for_a_message(round_):
    SCENARIOS["requeued"].run(round_)


@pytest.mark.long
@pytest.mark.parametrize(("round_", "link"), [(1, "worker-database"), (7, "api-queue")], indirect=["round_"])
def test_a_link_that_falls_silent_loses_nothing(round_, link):
    SCENARIOS["black-hole"].run(round_)
    assert link in round_.description


@pytest.mark.long
@pytest.mark.parametrize("round_", [1], indirect=True)
def test_batches_whose_worker_is_killed_twice_arrive_once_with_their_own_values(round_):
    round_.messages = 600
    SCENARIOS["batches"].run(round_)
    assert round_.figures.accepted == 600


@pytest.mark.long
@pytest.mark.parametrize("round_", [1], indirect=True)
def test_webhooks_whose_receiver_and_worker_are_killed_miss_nothing(round_):
    round_.messages = 400
    SCENARIOS["webhooks"].run(round_)
    assert "events" in round_.description
