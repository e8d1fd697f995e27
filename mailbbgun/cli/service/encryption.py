"""``mailbbgun encryption``: the keys that encrypt passwords in the database.

To change the key, put a new one first in ``ENCRYPTION_KEYS``, restart every process, then run
``encryption rotate``. If several machines cannot restart at once, first put the new key last on
each of them, since each must read what the others write. The old key may go once ``encryption
status`` says that it opens nothing.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn
from uuid import UUID

import click
from tqdm import tqdm

from mailbbgun.cli.terminal import PROGRAM, as_json, opened, print_json, print_one, print_table
from mailbbgun.database.db import Base
from mailbbgun.database.reencrypt import Place, Tally, count, places, reencrypt, tally
from mailbbgun.domains import models as domains
from mailbbgun.inbound_routes import models as inbound_routes
from mailbbgun.licences import models as licences
from mailbbgun.services import Services
from mailbbgun.slack_accounts import models as slack_accounts
from mailbbgun.smtp_accounts import models as smtp_accounts
from mailbbgun.tenants import models as tenants
from mailbbgun.tenants import repo
from mailbbgun.webhooks import models as webhooks

INTERRUPTED = 130  # 128 + SIGINT, the exit code shells use
#: Rooms whose tables have secrets.
ROOMS = (domains, inbound_routes, licences, slack_accounts, smtp_accounts, tenants, webhooks)


@click.group()
def encryption() -> None:
    """Keys that encrypt secrets in the database (ENCRYPTION_KEYS), numbered by their place in that
    list.
    """


@encryption.command()
@as_json
def status(as_json: bool) -> None:
    """Show which database it is, how many secrets each key opens, and which secrets no key opens.

    A key that opens none may go. The exit code is 1 if there is a secret that no key opens.
    """
    with opened() as services:
        where = _places()
        with _bar(services, where, "looking") as advance:
            found = tally(services.db, services.vault, where, advance)
        lost = _lost(services, found)
        rows = [
            {"key": place + 1, "secrets": found.by_key[place], "use": _use(place, found)}
            for place in range(services.vault.size)
        ]
    database = services.db.shown
    if as_json:
        print_json(
            {
                "database": database,
                "keys": [{name: row[name] for name in ("key", "secrets")} for row in rows],
                "unreadable": lost,
            }
        )
    else:
        print_one({"database": database})
        click.echo()
        print_table(rows, ("key", "secrets", "use"))
    _exit_if_lost(lost, found, database)


@encryption.command()
def rotate() -> None:
    """Encrypt every secret with the first key.

    Works in batches, beside a running service. You may interrupt and repeat it: it skips what the
    first key encrypted already. Secrets that no key opens are left alone and named; the exit code
    is 1 then.
    """
    with opened() as services:
        where = _places()
        try:
            with _bar(services, where, "encrypting") as advance:
                reencrypt(services.db, services.vault, where, advance)
            with _bar(services, where, "checking") as advance:
                found = tally(services.db, services.vault, where, advance)
        except KeyboardInterrupt:
            click.echo(f"{PROGRAM}: interrupted; what is done is kept, and the next run does the rest", err=True)
            sys.exit(INTERRUPTED)
        lost = _lost(services, found)
    click.echo(f"encrypted by the first key: {found.by_key[0]} of {found.total}")
    if found.behind:
        click.echo(
            f"{PROGRAM}: {found.behind} were written by another key meanwhile: "
            "start every process again, then repeat this",
            err=True,
        )
    _exit_if_lost(lost, found, services.db.shown)
    if found.behind:
        sys.exit(1)


# The name of this group before there was ``encryption``. It is hidden because ``keys rotate`` is
# easily taken for ``key rotate``, which rotates an API key. Scripts that use it go on working.
keys = click.Group("keys", commands=encryption.commands, help=encryption.help, hidden=True)


def _places() -> Sequence[Place]:
    return places(Base.metadata)


@contextmanager
def _bar(services: Services, where: Sequence[Place], doing: str) -> Iterator[Callable[[int], object]]:
    """Show a progress bar on standard error, if that is a terminal; yield what advances it."""
    bar: tqdm[NoReturn]
    with tqdm(total=count(services.db, where), desc=doing, unit="secret", disable=None, file=sys.stderr) as bar:
        yield bar.update


def _lost(services: Services, found: Tally) -> list[dict[str, Any]]:
    """Return the secrets that no key opens, with the names of their tenants."""
    identifiers = {one.tenant_id for one in found.unreadable if one.tenant_id}
    with services.db.read() as session:
        names: dict[UUID, str] = repo.names(session, identifiers)
    return [
        {"table": one.table, "tenant": names.get(one.tenant_id) if one.tenant_id else None, "name": one.name}
        for one in found.unreadable
    ]


def _exit_if_lost(lost: Sequence[dict[str, Any]], found: Tally, database: str) -> None:
    """Exit with code 1 if no key opens some of the secrets in this database: say how many, and which."""
    if not lost:
        return
    told = f"no key opens {len(lost)} of {found.total} secrets in {database}"
    click.echo(f"{PROGRAM}: {told}; they are left as they are, and readable again when their key is back:", err=True)
    for one in lost:
        click.echo(f"  {one['table']}: {one['tenant'] + ': ' if one['tenant'] else ''}{one['name']}", err=True)
    sys.exit(1)


def _use(place: int, found: Tally) -> str:
    if place == 0:
        return "encrypts"
    return "needed until encryption rotate" if found.by_key[place] else "may go"
