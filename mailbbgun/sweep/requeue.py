"""``bin/requeue-pending``: the workers' rescue of stranded messages, by hand or by cron.

Unlike a worker's sweep it has no limit of messages.
"""

import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import click
from tqdm import tqdm

from mailbbgun import migrations
from mailbbgun.core import faults, logs
from mailbbgun.core.errors import ConfigurationError
from mailbbgun.core.process import CONTEXT, explained_exit, on_stop, version_option
from mailbbgun.services import Services, build, make_folder
from mailbbgun.startup import load_checked
from mailbbgun.sweep.hints import OVERDUE, count, hint_again, lost, overdue, unhinted
from mailbbgun.sweep.replay import replay_dead

#: The exit code if another one is running: EX_TEMPFAIL of sysexits.h.
BUSY = 75


@click.command(context_settings=CONTEXT)
@version_option
@click.option("--dry-run", is_flag=True, help="Only count; change nothing.")
@click.option(
    "--older-than",
    type=click.IntRange(1),
    default=OVERDUE,
    show_default=True,
    help="Seconds a message must have waited since its hint.",
)
@click.option("--quiet", "-q", is_flag=True, help="Print nothing if no message was stranded.")
def main(dry_run: bool, older_than: int, quiet: bool) -> None:
    """Put stranded PENDING messages back on the queue and print how many.

    A message is stranded if it is due, no worker holds it, and no hint is on its way: it was never
    hinted, the hint of its retry did not come, or its lane is nearly empty by now. A backlog that
    waits on the queue is left alone.

    Exit codes: 0 done, 1 the database or the queue does not answer, 75 another one is running, 78 a
    setting is wrong.
    """
    with explained_exit("requeue-pending"):
        settings = load_checked(sends=False)
        faults.arm()
        logs.configure("WARNING", settings.LOG_FORMAT)
        services = build(settings, installed=True)
        try:
            migrations.check(services.db)
            if not dry_run:
                services.db.check_writable()
            services.queue.check()  # publishing would find out only if something were stranded
            make_folder(settings)  # for the lock
            with _only_one(settings.var / "requeue-pending.lock"):
                stopped: list[bool] = []  # not an Event: two signals at once could deadlock in its lock
                on_stop(lambda: stopped.append(True))
                total = requeue(services, older_than, dry_run, lambda: bool(stopped))
        finally:
            services.close()
    if stopped:
        print("requeue-pending: told to stop; the next run, or the workers, do the rest", file=sys.stderr)
    if total or not quiet:
        print(f"{total} stranded, nothing changed" if dry_run else f"requeued {total}")


def requeue(services: Services, older_than: int, dry_run: bool, stopped: Callable[[], bool] = lambda: False) -> int:
    """Requeue stranded messages, or only count them; return how many.

    It stops early once ``stopped`` returns True.
    """
    db, queue = services.db, services.queue
    if not dry_run:
        replay_dead(db, services.settings)
    looked_for = [*unhinted(older_than), *overdue(older_than), *lost(db, queue, older_than)]
    with db.read() as session:
        counts = [count(session, stranded) for stranded in looked_for]
    if dry_run:
        return sum(counts)
    with tqdm(total=sum(counts), unit="message", disable=None, file=sys.stderr) as bar:
        return hint_again(db, queue, looked_for, progress=lambda done: _advance(bar, done), stopped=stopped)


def _advance(bar: "tqdm[NoReturn]", done: int) -> None:
    bar.update(done)


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    try:
        file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(f"the lock {path} cannot be taken: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("requeue-pending: another one is running", file=sys.stderr)
        raise SystemExit(BUSY) from None
    try:
        yield
    finally:
        os.close(file)
