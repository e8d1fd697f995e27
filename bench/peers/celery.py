"""Celery on RabbitMQ, with a task that sends one message by ``smtplib`` over its own connection.

This is what most teams have. Celery keeps its defaults except where durability demands more:
publishes are confirmed, messages persistent (the default), tasks acknowledged when done. It runs a
prefork pool of one process per core, on the classic durable queue that it declares by default.
Results are not kept.
"""

import os
import smtplib
from collections.abc import Callable
from email.message import EmailMessage

from celery import Celery

from bench.peers import CORES
from bench.programs.payload import SENDER, SUBJECT, TEXT

HOSTNAME = "bench.example.test"  # set, so that no DNS lookup for our own name is made

app = Celery("bench.peers.celery", broker=os.environ["BENCH_AMQP_URL"])
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    broker_transport_options={"confirm_publish": True},
    broker_connection_retry_on_startup=True,
)


@app.task
def send(to: str, subject: str, text: str) -> None:
    """Send one message."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = SENDER, to, subject
    message.set_content(text)
    with smtplib.SMTP("127.0.0.1", int(os.environ["BENCH_SMTP_PORT"]), HOSTNAME) as server:
        server.send_message(message)


def install() -> None:
    """Declare the queue, as the worker would, so that messages may come before it starts."""
    with app.connection_for_write() as connection:
        app.amqp.queues["celery"].bind(connection.default_channel).declare()


def submitter() -> Callable[[str], object]:
    """Return a function that publishes a task and returns once it is confirmed."""
    producer = app.amqp.Producer(app.connection_for_write().ensure_connection())
    return lambda to: send.apply_async((to, SUBJECT, TEXT), producer=producer)


def work() -> None:
    """Run a worker."""
    app.worker_main(["worker", "--loglevel=WARNING", "--pool=prefork", f"--concurrency={CORES}"])
