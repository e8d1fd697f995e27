"""django-post_office on PostgreSQL, sent by its own ``send_queued_mail``.

Its defaults: batches of 100, five threads a process, each with a connection for its part of the batch, and a log row for each message.
One process per core (``--processes``). Cron starts it once a minute as a rule; here it starts again a tenth of a second after it has
emptied the queue.
"""

import os
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connection

from bench.payload import SENDER, SUBJECT, TEXT
from bench.peers import CORES

AGAIN_SECONDS = 0.1

_database = urlsplit(os.environ["BENCH_DATABASE_URL"])
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "post_office"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": _database.path[1:],
            "USER": _database.username,
            "PASSWORD": _database.password or "",
            "HOST": _database.hostname,
            "PORT": _database.port,
        }
    },
    EMAIL_BACKEND="post_office.EmailBackend",
    EMAIL_HOST="127.0.0.1",
    EMAIL_PORT=int(os.environ["BENCH_SMTP_PORT"]),
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    USE_TZ=True,
    LOGGING_CONFIG=None,
)
django.setup()


def install() -> None:
    """Create the tables."""
    call_command("migrate", verbosity=0)


def submitter() -> Callable[[str], object]:
    """Return what queues a message, committed when it returns, over a connection that is open."""
    from post_office import mail  # its models are there after setup() only

    connection.ensure_connection()
    return lambda to: mail.send(to, SENDER, subject=SUBJECT, message=TEXT)


def work() -> None:
    """Send what is queued, again and again."""
    while True:
        call_command("send_queued_mail", processes=CORES, lockfile=os.path.abspath("post_office"))
        time.sleep(AGAIN_SECONDS)
