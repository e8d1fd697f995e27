"""A pending write: which state may follow which, and who is called back."""

import threading

import pytest

from mailbbgun.accept.pending import PendingWrite, Rows, State
from mailbbgun.core.errors import QuotaExceeded
from tests.waiting import wait_until

FULL = QuotaExceeded("More than 7 messages today (UTC).", limit=7, retry_after=60)
ROWS = Rows({}, (), {})


class ByHand:
    """Takes what begins and does nothing with it."""

    def __init__(self):
        self.lock = threading.Lock()

    def begin(self, pending):
        if pending.state is State.NEW:
            pending.move(State.WAITING)

    def settle(self, pending):
        if pending.refusal:
            raise pending.refusal
        return {"state": pending.state.name}


@pytest.fixture
def pending():
    return PendingWrite(ByHand(), ROWS, None, lambda: None)


def moved(pending, *states):
    for state in states:
        pending.move(state)
    return pending


@pytest.mark.parametrize("before", [
    (State.WAITING,), (State.WAITING, State.ALONE),
], ids=lambda states: states[-1].name)  # fmt: skip
@pytest.mark.parametrize("end", [State.STORED, State.ANSWERED, State.OVER_QUOTA])
def test_a_commit_ends_a_write_that_waits_or_was_left_alone_and_no_state_follows(pending, before, end):
    moved(pending, *before, end)
    assert not pending.waits
    for state in State:
        with pytest.raises(ValueError, match=f"is {end.name} does not become {state.name}"):
            pending.move(state)
        assert pending.state is end


@pytest.mark.parametrize(("before", "after"), [
    ((), State.STORED), ((), State.ALONE), ((), State.ANSWERED), ((), State.OVER_QUOTA), ((), State.NEW),
    ((State.WAITING,), State.WAITING), ((State.WAITING,), State.NEW),
    ((State.WAITING, State.ALONE), State.WAITING), ((State.WAITING, State.ALONE), State.ALONE),
])  # fmt: skip
def test_no_state_is_skipped_and_none_comes_back(pending, before, after):
    moved(pending, *before)
    with pytest.raises(ValueError, match=f"does not become {after.name}"):
        pending.move(after)


def test_the_callback_is_called_once_however_the_write_ends(pending):
    told = []
    pending.begin(lambda: told.append(pending.state))
    assert (pending.state, told) == (State.WAITING, [])
    pending.wake(State.OVER_QUOTA, FULL)
    assert told == [State.OVER_QUOTA]
    assert not pending.stored
    with pytest.raises(QuotaExceeded, match="More than 7"):
        pending.result()
    pending.begin(lambda: told.append("late"))
    assert told == [State.OVER_QUOTA, "late"]


@pytest.mark.parametrize(
    ("end", "answer"),
    [(State.STORED, None), (State.ANSWERED, {"state": "ANSWERED"}), (State.ALONE, {"state": "ALONE"})],
)
def test_a_result_is_waited_for_until_the_shared_commit_has_taken_or_left_it(pending, end, answer):
    results = []
    waiting = threading.Thread(target=lambda: results.append(pending.result()))
    waiting.start()
    wait_until(lambda: pending.state is State.WAITING, "the wait")
    assert results == []
    pending.wake(end)
    waiting.join()
    assert results == [answer]
