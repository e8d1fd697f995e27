"""django-post_office on PostgreSQL, sending with its own ``send_queued_mail``.

It keeps its defaults: batches of 100, five threads per process, each with a connection for its part
of the batch, and a log row per message. It runs one process per core (``--processes``). Usually
cron starts it once a minute. Here it starts again a tenth of a second after it has emptied the
queue.
"""

import os
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connection

from bench.peers import CORES
from bench.programs.payload import SENDER, SUBJECT, TEXT

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
    """Return a function that queues a message and returns once it is committed."""
    from post_office import mail  # its models exist only after setup()

    connection.ensure_connection()
    return lambda to: mail.send(to, SENDER, subject=SUBJECT, message=TEXT)


def work() -> None:
    """Send what is queued, again and again."""
    while True:
        call_command("send_queued_mail", processes=CORES, lockfile=os.path.abspath("post_office"))
        time.sleep(AGAIN_SECONDS)
