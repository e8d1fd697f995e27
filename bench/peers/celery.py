"""Celery on RabbitMQ, and a task that sends with ``smtplib`` over a connection of its own: what most teams have today.

Celery's defaults, but for what durability asks: publishes are confirmed, messages persistent (the default), tasks acknowledged when done.
A prefork pool of one process per core. The classic durable queue that Celery declares unless told otherwise. No result is kept.
"""

import os
import smtplib
from collections.abc import Callable
from email.message import EmailMessage

from celery import Celery

from bench.payload import SENDER, SUBJECT, TEXT
from bench.peers import CORES

HOSTNAME = "bench.example.test"  # given, so that no DNS is asked for our own

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
    """The worker declares its queue; so that messages may come before it, it is declared here too."""
    with app.connection_for_write() as connection:
        app.amqp.queues["celery"].bind(connection.default_channel).declare()


def submitter() -> Callable[[str], object]:
    """Return what publishes a task, confirmed when it returns, over a connection that is open."""
    producer = app.amqp.Producer(app.connection_for_write().ensure_connection())
    return lambda to: send.apply_async((to, SUBJECT, TEXT), producer=producer)


def work() -> None:
    """Run a worker."""
    app.worker_main(["worker", "--loglevel=WARNING", "--pool=prefork", f"--concurrency={CORES}"])
