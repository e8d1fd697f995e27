"""Fills a database with pending messages, by a few statements instead of one accept for each.

The rows are like those that accept stores.
"""

import random
from collections.abc import Callable

from sqlalchemy import Connection, text

from bench.programs.payload import DOMAIN, SENDER, SUBJECT, TEXT
from mailbbgun.database.db import Database

CHUNK = 50_000  # messages per transaction
STEP = 2  # milliseconds from one message to the next
AHEAD = 86_400  # seconds: hints are dated ahead, so that none counts as overdue during the run

_LINE, _LINES = 76, 4000  # characters of a line; lines of the text that bodies are cut from
_BODY = 54  # lines of a body, about 4 KB
_WORDS = TEXT.split()

# The function makes UUIDs of version 7 that grow with n. The same n always gives the same id.
_ID = """
CREATE FUNCTION pg_temp.id_of(n bigint, salt text) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex({first} + n * {step}), 12, '0') || '7' || substr(h, 1, 3) || '8' || substr(h, 4, 15))::uuid
    FROM md5(salt || n) h
$$
"""
_GROUND = """
WITH ground AS (
    SELECT n, to_timestamp(({first} + n * {step}) / 1000.0) AS at, pg_temp.id_of(n, 'message') AS id
    FROM generate_series({low}, {high} - 1) n
)
"""
_LANE = "CASE WHEN n % 10 = 0 THEN {high} WHEN n % 10 = 1 THEN {low} ELSE {most} END"
_PRIORITY, _NAME = _LANE.format(high=9, low=1, most=5), _LANE.format(high="'high'", low="'bulk'", most="'normal'")

_HEADERS = (
    f"'From: {SENDER}'",
    f"'To: u' || n || 'x1@{DOMAIN}'",
    f"'Subject: {SUBJECT} ' || n",
    f"'Message-ID: <' || id || '@{DOMAIN}>'",
    "'Date: ' || to_char(at, 'Dy, DD Mon YYYY HH24:MI:SS +0000')",
    "'MIME-Version: 1.0'",
    "'Content-Type: text/plain; charset=utf-8'",
)
_START = f"1 + {_LINE + 2} * (('x' || left(md5('' || n), 6))::bit(24)::int % {_LINES - _BODY})"
_HEAD = f"convert_to(concat_ws(E'\\r\\n', {', '.join(_HEADERS)}, '', ''), 'UTF8')"
_RAW = f"{_HEAD} || substring(:text FROM {_START} FOR {(_LINE + 2) * _BODY})"

# One message in ten has two recipients, one in four an idempotency key, one in five a tag. A tenth
# has high priority and a tenth low priority.
_STATEMENTS = (
    f"""
    INSERT INTO messages (id, created_at, status, subject, sender, mail_from, message_id, priority, smtputf8, size,
        tags, metadata, raw)
    SELECT id, at, 'PENDING', '{SUBJECT} ' || n, '{SENDER}', '{SENDER}', '<' || id || '@{DOMAIN}>',
        {_PRIORITY}, false, octet_length(raw),
        CASE WHEN n % 5 = 0 THEN json_build_array('tag' || n % 7) ELSE '[]' END, '{{}}', raw
    FROM ground, LATERAL (SELECT {_RAW} AS raw) mime
    """,
    f"""
    INSERT INTO deliveries (id, message_id, address, kind, lane, status, attempt, tries,
        crashes, unknowns, next_attempt_at, published_at)
    SELECT pg_temp.id_of(n, 'delivery' || other), id, 'u' || n || 'x' || other || '@{DOMAIN}', 'to', {_NAME},
        'PENDING', 0, 0, 0, 0, at, statement_timestamp() + {AHEAD} * interval '1 second'
    FROM ground, generate_series(1, CASE WHEN n % 10 = 3 THEN 2 ELSE 1 END) other
    """,
    """
    INSERT INTO events (id, message_id, delivery_id, at, kind, data)
    SELECT pg_temp.id_of(n, 'event'), id, NULL, at, 'accepted', json_build_object('recipients', 1, 'size', 4400)
    FROM ground
    """,
    "INSERT INTO message_tags (tag, message_id) SELECT 'tag' || n % 7, id FROM ground WHERE n % 5 = 0",
    """
    INSERT INTO idempotency_keys (key, fingerprint, message_id, response, created_at)
    SELECT 'key' || n, md5('' || n) || md5(n || 'x'), id, json_build_object('id', id, 'status', 'PENDING'), at
    FROM ground WHERE n % 4 = 0
    """,
)


def fill(database: Database, messages: int, on_progress: Callable[[int], object] = lambda _: None) -> None:
    """Add ``messages`` pending messages whose hints were published just now.

    ``on_progress`` is called with the number of messages of each committed transaction. Vacuums and
    analyzes at the end, as autovacuum would within a minute.
    """
    pool = _text()
    with database.engine.connect() as connection:
        with connection.begin():
            first = (
                connection.execute(text("SELECT (extract(epoch FROM now()) * 1000)::bigint")).scalar_one()
                - messages * STEP
            )
            connection.exec_driver_sql(_ID.format(first=first, step=STEP))
        for low in range(0, messages, CHUNK):
            high = min(messages, low + CHUNK)
            with connection.begin():
                _chunk(connection, _GROUND.format(first=first, step=STEP, low=low, high=high), pool)
            on_progress(high - low)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM (ANALYZE)")
        connection.exec_driver_sql("CHECKPOINT")


def _chunk(connection: Connection, ground: str, pool: bytes) -> None:
    for statement in _STATEMENTS:
        connection.execute(text(ground + statement), {"text": pool} if ":text" in statement else {})


def _text() -> bytes:
    """Return lines of random words and numbers, which do not compress to nothing."""
    dice, lines = random.Random(20261120), []
    for _ in range(_LINES):
        line = ""
        while len(line) < _LINE:
            line += f"{dice.choice(_WORDS)} {dice.randrange(10_000)} "
        lines.append(line[:_LINE])
    return "".join(f"{line}\r\n" for line in lines).encode()
