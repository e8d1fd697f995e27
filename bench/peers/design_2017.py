"""The obvious design: one message at a time, prefetch 1, a connection per message.

It uses pika, PostgreSQL and ``smtplib``. The sender commits a row and publishes its id, confirmed
and persistent. The worker takes one id, reads the row, sends, writes the status, commits, and
acknowledges.
"""

import os
import smtplib
from collections.abc import Callable
from email.message import EmailMessage

import pika
import psycopg2

from bench.programs.payload import SENDER, SUBJECT, TEXT

HOSTNAME = "bench.example.test"  # set, so that no DNS lookup for our own name is made
QUEUE = "mail"
PERSISTENT = pika.BasicProperties(delivery_mode=2)


def _database() -> "psycopg2.extensions.connection":
    return psycopg2.connect(os.environ["BENCH_DATABASE_URL"])


def _channel() -> "pika.adapters.blocking_connection.BlockingChannel":
    return pika.BlockingConnection(pika.URLParameters(os.environ["BENCH_AMQP_URL"])).channel()


def install() -> None:
    """Create the table and the queue."""
    with _database() as database, database.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE mail (id serial PRIMARY KEY, recipient text, subject text, body text, status text)"
        )
    _channel().queue_declare(QUEUE, durable=True)


def submitter() -> Callable[[str], None]:
    """Return a function that commits a message and then publishes its id."""
    database, channel = _database(), _channel()
    channel.confirm_delivery()

    def submit(to: str) -> None:
        with database, database.cursor() as cursor:
            values = (to, SUBJECT, TEXT)
            cursor.execute(
                "INSERT INTO mail (recipient, subject, body, status) VALUES (%s, %s, %s, 'PENDING') RETURNING id",
                values,
            )
            (number,) = cursor.fetchone()
        channel.basic_publish("", QUEUE, str(number).encode(), PERSISTENT, mandatory=True)

    return submit


def work() -> None:
    """Deliver one message after the other."""
    database, channel = _database(), _channel()
    channel.basic_qos(prefetch_count=1)
    for method, _, body in channel.consume(QUEUE):
        with database, database.cursor() as cursor:
            cursor.execute("SELECT recipient, subject, body FROM mail WHERE id = %s", (int(body),))
            to, subject, text = cursor.fetchone()
            message = EmailMessage()
            message["From"], message["To"], message["Subject"] = SENDER, to, subject
            message.set_content(text)
            with smtplib.SMTP("127.0.0.1", int(os.environ["BENCH_SMTP_PORT"]), HOSTNAME) as server:
                server.send_message(message)
            cursor.execute("UPDATE mail SET status = 'DELIVERED' WHERE id = %s", (int(body),))
        channel.basic_ack(method.delivery_tag)
