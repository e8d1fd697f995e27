"""Logs: one line for each event, as ``key=value`` pairs or JSON. No value can forge a line.

Callers give no bodies and no secrets.
"""

import logging
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from select import PIPE_BUF
from typing import Any
from uuid import UUID

import orjson

_BARE = re.compile(r'[^ "=]+')
#: Types whose text needs no quotes and no look: most of a line is such values.
_PLAIN = frozenset({int, float, bool})
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def safe(value: object) -> str:
    """Return a value as text without control characters, so that no input can forge a log line."""
    text = str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _time(record: logging.LogRecord) -> str:
    return _moment(record.created, record.msecs)


def _moment(seconds: float, milliseconds: float) -> str:
    return f"{_second(int(seconds))}.{int(milliseconds):03}Z"


@lru_cache(maxsize=2)
def _second(timestamp: int) -> str:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _shown(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None and key not in _STANDARD}


class KeyValue(logging.Formatter):
    """``2026-01-01T00:00:00.000Z info delivered message=… reply="250 ok"``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, and an indented line for each one of a traceback."""
        shown = self.line(_time(record), record.levelname, record.getMessage(), _shown(vars(record)))
        traceback = self.formatException(record.exc_info).splitlines() if record.exc_info else ()
        return shown + "".join(f"\n    {safe(line)}" for line in traceback)

    def line(self, moment: str, level: str, event: str, fields: Mapping[str, Any]) -> str:
        """Return one line, without its end."""
        pairs = "".join([f" {key}={_quoted(value)}" for key, value in fields.items()])
        return f"{moment} {level.lower()} {safe(event)}{pairs}"


class JSONLines(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line of JSON."""
        fields = _shown(vars(record))
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return self.line(_time(record), record.levelname, record.getMessage(), fields)

    def line(self, moment: str, level: str, event: str, fields: Mapping[str, Any]) -> str:
        """Return one line, without its end."""
        shown = {"time": moment, "level": level.lower(), "event": event, **fields}
        return orjson.dumps(shown, default=str).decode()


class LineHandler(logging.StreamHandler[Any]):
    """Writes lines to a stream: of one record, or of many events at once."""

    def __init__(self, stream: Any, style: KeyValue | JSONLines) -> None:
        super().__init__(stream)
        self.style = style
        self.setFormatter(style)

    def write_all(self, lines: Iterable[str]) -> None:
        """Write lines with few system calls.

        No write is longer than what a pipe takes as a whole. Otherwise lines of several processes
        that share the pipe could be torn apart.
        """
        self.acquire()
        try:
            for piece in _pieces(lines):
                self.stream.write(piece)
                self.flush()
        except Exception:  # noqa: BLE001 - told on standard error, as logging does with its own
            self.handleError(logging.makeLogRecord({"msg": "lines that could not be written"}))
        finally:
            self.release()


def _pieces(lines: Iterable[str]) -> Iterable[str]:
    """Join lines to texts of at most PIPE_BUF bytes, if no line alone is longer."""
    piece: list[str] = []
    size = 0
    for line in lines:
        length = (len(line) if line.isascii() else len(line.encode(errors="surrogatepass"))) + 1
        if piece and size + length > PIPE_BUF:
            yield "\n".join(piece) + "\n"
            piece, size = [], 0
        piece.append(line)
        size += length
    if piece:
        yield "\n".join(piece) + "\n"


def info_all(logger: logging.Logger, events: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """Log a line for each event, with its fields, at level INFO: the same lines as ``logger.info`` for each.

    A call of ``logger.info`` costs three times as much as a line. Handlers that are not ours get a
    record for each event. A field that is called like an attribute of records is left out.
    """
    if not logger.isEnabledFor(logging.INFO):
        return
    handlers = _handlers(logger)
    if not handlers:
        for event, fields in events:
            logger.info(event, extra={name: fields[name] for name in fields.keys() - _STANDARD})
        return
    now = time.time()
    moment = _moment(now, now % 1 * 1000)
    shown = [(event, _shown(fields)) for event, fields in events]
    for handler in handlers:
        handler.write_all([handler.style.line(moment, "INFO", event, fields) for event, fields in shown])


def _handlers(logger: logging.Logger) -> list[LineHandler]:
    """Return all handlers of a logger; an empty list if some of them is not ours or filters records."""
    found: list[LineHandler] = []
    one: logging.Logger | None = logger
    while one:
        for handler in one.handlers:
            if not isinstance(handler, LineHandler) or handler.filters or handler.level > logging.INFO:
                return []
            found.append(handler)
        one = one.parent if one.propagate else None
    return [] if logger.filters else found


def _quoted(value: object) -> str:
    if type(value) in _PLAIN:
        return str(value)
    if type(value) is UUID:
        return orjson.dumps(value)[1:-1].decode()  # in a third of the time of str()
    shown = safe(value)
    return shown if _BARE.fullmatch(shown) else orjson.dumps(shown).decode()


def set_level(level: str) -> None:
    """Print lines from this level on, DEBUG to ERROR."""
    logging.getLogger().setLevel(level)
    for noisy in ("alembic", "mail.log", "asyncio"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level)))


def configure(level: str, style: str) -> None:
    """Send the logs of this process to standard error.

    ``level`` is the name of the lowest level to print, DEBUG to ERROR. ``style`` is text or json.
    """
    handler = LineHandler(sys.stderr, JSONLines() if style == "json" else KeyValue())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_level(level)
    logging.getLogger("pika").setLevel(logging.CRITICAL)  # it logs a traceback of each error that it also raises
    # Our lines show none of this, and collecting it took a sixth of the time of a line. See
    # "Optimization" in the documentation of logging.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
