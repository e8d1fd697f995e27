"""Log lines: those of many events at once are those of each event alone, and none is torn."""

import io
import json
import logging
from collections.abc import Iterator
from decimal import Decimal
from select import PIPE_BUF
from uuid import UUID

import pytest

from mailbbgun.core import logs

ID = UUID("01a223b4-b717-702b-9cf3-0caae206c41f")
EVENTS = [
    (
        "delivered",
        {"message_id": ID, "key_id": None, "claim": 1, "code": 250, "reply": "Ok: queued as 4X", "tls": True},
    ),
    ("deferred", {"reply": 'forged\n2026 error "x" a=b', "wait": 1.5, "enhanced": "4.7.0", "empty": ""}),
    ("bounced\n", {"reply": "größer \u2028 \x1b[31m", "name": "a standard attribute", "args": 5, "other": Decimal(3)}),
    ("accepted", {}),
]


class Written(io.StringIO):
    """A stream that keeps each write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []

    def write(self, text: str) -> int:
        self.writes.append(text)
        return super().write(text)


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    made = logging.Logger("mailbbgun.test", logging.INFO)
    yield made
    made.handlers.clear()


def handled(logger: logging.Logger, style: logs.KeyValue | logs.JSONLines) -> Written:
    stream = Written()
    logger.addHandler(logs.LineHandler(stream, style))
    return stream


def one_by_one(style: logs.KeyValue | logs.JSONLines) -> list[str]:
    """Format each event as the record that logging makes of it, which may have no standard attributes."""
    lines = []
    for event, fields in EVENTS:
        allowed = {key: value for key, value in fields.items() if key not in ("name", "args")}
        record = logging.Logger("x").makeRecord("x", logging.INFO, "", 0, event, (), None, extra=allowed)
        lines.append(style.format(record))
    return lines


def without_time(line: str) -> str:
    if line.startswith("{"):
        return json.dumps({key: value for key, value in json.loads(line).items() if key != "time"})
    assert line[10] == "T"
    assert line[23] == "Z"
    return line[24:]


@pytest.mark.parametrize("style", [logs.KeyValue(), logs.JSONLines()], ids=["text", "json"])
def test_lines_of_many_events_are_those_of_each_alone(logger: logging.Logger, style: logs.KeyValue) -> None:
    stream = handled(logger, style)
    logs.info_all(logger, EVENTS)
    lines = stream.getvalue().removesuffix("\n").split("\n")
    assert [without_time(line) for line in lines] == [without_time(line) for line in one_by_one(style)]
    assert len(stream.writes) == 1


def test_no_write_is_longer_than_a_pipe_takes_at_once_and_no_line_is_torn(logger: logging.Logger) -> None:
    stream = handled(logger, logs.KeyValue())
    events = [("delivered", {"n": number, "reply": "ä" * (number % 50)}) for number in range(500)]
    events.insert(77, ("long", {"reply": "x" * 3 * PIPE_BUF}))
    logs.info_all(logger, events)
    assert all(write.endswith("\n") for write in stream.writes)
    assert all(len(write.encode()) <= PIPE_BUF for write in stream.writes if " long " not in write)
    assert [write.count("\n") for write in stream.writes if " long " in write] == [1]
    assert len(stream.getvalue().splitlines()) == 501
    assert len(stream.writes) < 25


def test_handlers_that_are_not_ours_get_a_record_for_each_event(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "mailbbgun.test.caught"):
        logs.info_all(logging.getLogger("mailbbgun.test.caught"), [("one", {"n": 1, "name": "x"}), ("two", {"n": 2})])
    assert [(record.getMessage(), vars(record)["n"]) for record in caplog.records] == [("one", 1), ("two", 2)]


def test_a_stream_that_is_gone_ends_nothing(logger: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)  # as in production it would tell standard error, also gone
    stream = handled(logger, logs.KeyValue())
    stream.close()
    logs.info_all(logger, EVENTS)


def test_a_level_above_info_makes_no_lines(logger: logging.Logger) -> None:
    stream = handled(logger, logs.KeyValue())
    logger.setLevel(logging.WARNING)
    logs.info_all(logger, EVENTS)
    assert stream.writes == []
