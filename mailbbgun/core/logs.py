"""Logs: one line for each event, as ``key=value`` pairs or JSON. No value can forge a line.

Callers give no bodies and no secrets.
"""

import logging
import re
import sys
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson

_BARE = re.compile(r'[^ "=]+')
#: Types whose text needs no quotes and no look: most of a line is such values.
_PLAIN = frozenset({UUID, int, float, bool})
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def safe(value: object) -> str:
    """Return a value as text without control characters, so that no input can forge a log line."""
    text = str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _time(record: logging.LogRecord) -> str:
    return f"{_second(int(record.created))}.{int(record.msecs):03}Z"


@lru_cache(maxsize=2)
def _second(timestamp: int) -> str:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD and value is not None}


class KeyValue(logging.Formatter):
    """``2026-01-01T00:00:00.000Z info delivered message=… reply="250 ok"``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, and an indented line for each one of a traceback."""
        head = f"{_time(record)} {record.levelname.lower()} {safe(record.getMessage())}"
        pairs = "".join([f" {key}={_quoted(value)}" for key, value in _extra(record).items()])
        traceback = self.formatException(record.exc_info).splitlines() if record.exc_info else ()
        return head + pairs + "".join(f"\n    {safe(line)}" for line in traceback)


class JSONLines(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line of JSON."""
        fields = {"time": _time(record), "level": record.levelname.lower(), "event": record.getMessage()}
        fields |= _extra(record)
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(fields, default=str).decode()


def _quoted(value: object) -> str:
    if type(value) in _PLAIN:
        return str(value)
    shown = safe(value)
    return shown if _BARE.fullmatch(shown) else orjson.dumps(shown).decode()


def configure(level: str, style: str) -> None:
    """Send the logs of this process to standard error.

    ``level`` is the name of the lowest level to print, DEBUG to ERROR. ``style`` is text or json.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONLines() if style == "json" else KeyValue())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("alembic", "mail.log", "asyncio"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level)))
    logging.getLogger("pika").setLevel(logging.CRITICAL)  # it logs a traceback of each error that it also raises
    # Our lines show none of this, and collecting it took a sixth of the time of a line. See
    # "Optimization" in the documentation of logging.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
