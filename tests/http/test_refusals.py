"""Log lines about refusals: only a few are written, and the others are counted."""

import threading
from collections.abc import Iterator

import pytest

from mailbbgun.http.refusals import MOST, MOST_OF_ONE, SECONDS, Refusals


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def refusals(clock: Clock) -> Iterator[Refusals]:
    made = Refusals(clock)
    yield made
    made.close()


def test_of_one_address_a_few_lines_are_written_in_a_minute_and_the_rest_is_counted(
    refusals: Refusals, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(1000):
        refusals.tell("unauthorized", "192.0.2.1", {"client": "192.0.2.1"})
    refusals.tell("unauthorized", "192.0.2.2", {"client": "192.0.2.2"})
    refusals.tell("forbidden", "192.0.2.1", {"client": "192.0.2.1"})
    assert [record.message for record in caplog.records] == ["request_refused"] * (MOST_OF_ONE + 2)
    clock.now += SECONDS
    refusals.tell("unauthorized", "192.0.2.1", {})
    assert [record.message for record in caplog.records][-2:] == ["refusals_left_out", "request_refused"]
    assert vars(caplog.records[-2])["count"] == 1000 - MOST_OF_ONE


def test_however_many_addresses_there_are_the_lines_of_a_minute_are_bounded(
    refusals: Refusals, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(5000):
        refusals.tell("unauthorized", f"2001:db8:{number:x}::/64", {})
    assert len(caplog.records) == MOST
    refusals.close()
    assert vars(caplog.records[-1])["count"] == 5000 - MOST


def test_the_number_of_lines_left_out_is_logged_at_the_end_of_the_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    said = threading.Event()

    class Listening(Refusals):
        def close(self) -> None:
            super().close()
            said.set()

    refusals = Listening(seconds=0.05)
    for _ in range(MOST_OF_ONE + 3):
        refusals.tell("forbidden", "192.0.2.1", {})
    assert said.wait(60)
    assert [record.message for record in caplog.records if record.message == "refusals_left_out"]


def test_many_refusals_hide_no_lockout(refusals: Refusals, caplog: pytest.LogCaptureFixture) -> None:
    for n in range(2 * MOST):
        refusals.tell("unauthorized", f"address {n}", {})
    refusals.tell("locked", "192.0.2.1", {}, most=1, event="address_locked")
    assert [record.message for record in caplog.records] == ["request_refused"] * MOST + ["address_locked"]
