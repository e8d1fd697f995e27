"""``mailbbgun status``: which parts of the service work, and how many deliveries are waiting.

It reads the database and asks the queue. No API needs to run.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import click

from mailbbgun import migrations
from mailbbgun.cli.terminal import as_json, opened, print_json, print_one, print_table
from mailbbgun.core.clock import rfc3339
from mailbbgun.core.errors import ConfigurationError, MailBBGunError, QueueMisconfigured, Unavailable, explained
from mailbbgun.database.db import Database
from mailbbgun.deliver import workers
from mailbbgun.limits.stores import permit_store
from mailbbgun.oversight import backlog
from mailbbgun.queues.lanes import shown
from mailbbgun.services import Services

COLUMNS = ("host", "pid", "alive", "claims", "lease_until", "seen_at", "started_at", "id")

Problems = list[MailBBGunError]


@click.command()
@as_json
def status(as_json: bool) -> None:
    """Show whether database, queue and workers are there, and how many deliveries are waiting, and
    why.

    Exit code 1: something does not answer, or no worker is alive; 78: something is set wrong. One
    line says what.
    """
    with opened(checked=False) as services:
        problems: Problems = []
        told = _look(services, problems)
        if as_json:
            print_json(told)
        else:
            _print(told)
        if problems:
            raise _together(problems)


def _look(services: Services, problems: Problems) -> dict[str, Any]:
    database = _database(services.db, problems)
    usable = database["reachable"] and database["schema"] == migrations.HEAD
    told: dict[str, Any] = {"database": database, "deliveries": None, "publisher": None}
    told["queue"] = _queue(services, usable, problems)
    if services.settings.REDIS_URL:
        told["redis"] = _redis(services, problems)
    if services.scanner is not None:
        told["scanner"] = {"reachable": False}
        with _noting(problems):
            services.scanner.check()
            told["scanner"]["reachable"] = True
    told["workers"] = None
    if usable:
        with _noting(problems):
            told |= _backlog(services.db, problems)
    told["problems"] = [explained(one) for one in problems]
    return told


def _database(db: Database, problems: Problems) -> dict[str, Any]:
    told: dict[str, Any] = {"kind": db.dialect, "reachable": False, "schema": None, "schema_needed": migrations.HEAD}
    with _noting(problems):
        told["schema"], told["reachable"] = migrations.found(db), True
        if told["schema"] != migrations.HEAD:
            raise migrations.wrong(told["schema"])
    return told


def _queue(services: Services, database_usable: bool, problems: Problems) -> dict[str, Any]:
    embedded = services.settings.QUEUE_URL.startswith("embedded")
    kind = "embedded" if embedded else "rabbitmq"
    told: dict[str, Any] = {"kind": kind, "reachable": False, "depth": None, "depth_is_exact": embedded}
    if embedded and not database_usable:
        return told  # the embedded queue is in that database, whose problem is listed already
    with _noting(problems):
        try:
            services.queue.check()
            told["depth"] = {shown(lane): number for lane, number in services.queue.depth().items()}
        except QueueMisconfigured:  # it answers
            told["reachable"] = True
            raise
        told["reachable"] = True
    return told


def _redis(services: Services, problems: Problems) -> dict[str, Any]:
    told, counting = {"reachable": False}, permit_store(services.settings, services.db)
    with _noting(problems):
        counting.check()
        told["reachable"] = True
    counting.close()
    return told


def _backlog(db: Database, problems: Problems) -> dict[str, Any]:
    with db.read() as session:
        found, seen = backlog.look(session), workers.registered(session)
    if not any(one.alive for one in seen):
        problems.append(Unavailable(workers.NONE_ALIVE))
    due, unpublished = found.due, found.unpublished
    return {
        "deliveries": {
            "due": due.deliveries,
            "later": found.later,
            "held": found.held,
            "claimed": sum(one.deliveries for one in found.claimed.values()),
            "oldest_due_seconds": due.oldest_seconds,
        },
        "publisher": {"unpublished": unpublished.deliveries, "oldest_seconds": unpublished.oldest_seconds},
        "workers": [_worker(one, found.claimed) for one in seen] + _strangers(seen, found.claimed),
    }


def _worker(seen: workers.Seen, claimed: Mapping[UUID, backlog.Leased]) -> dict[str, Any]:
    worker = seen.worker
    moments = {"started_at": rfc3339(worker.started_at), "seen_at": rfc3339(worker.beat_at)}
    told = {"id": worker.id, "host": worker.host, "pid": worker.pid, "alive": seen.alive}
    return told | moments | _holds(claimed.get(worker.id))


def _strangers(seen: list[workers.Seen], claimed: Mapping[UUID, backlog.Leased]) -> list[dict[str, Any]]:
    """Return workers that hold claims but are not registered: they were killed long ago."""
    unknown: dict[str, Any] = {"host": None, "pid": None, "alive": False, "started_at": None, "seen_at": None}
    known = {one.worker.id for one in seen}
    return [{"id": owner} | unknown | _holds(its) for owner, its in claimed.items() if owner not in known]


def _holds(leased: backlog.Leased | None) -> dict[str, Any]:
    until = leased.lease_until if leased else None
    return {"claims": leased.deliveries if leased else 0, "lease_until": rfc3339(until) if until else None}


@contextmanager
def _noting(problems: Problems) -> Iterator[None]:
    """Add an error of ours to ``problems`` instead of ending the command."""
    try:
        yield
    except MailBBGunError as error:
        problems.append(error)


def _together(problems: Problems) -> MailBBGunError:
    """Return one error whose message has all problems."""
    told = "; ".join(dict.fromkeys(explained(one) for one in problems))
    refused = any(isinstance(one, Unavailable) and one.refused for one in problems)
    wrong = refused or any(isinstance(one, ConfigurationError) for one in problems)
    return ConfigurationError(told) if wrong else Unavailable(told)


def _print(told: Mapping[str, Any]) -> None:
    database, queue = told["database"], told["queue"]
    schema = f", schema {database['schema'] or 'missing'}" if database["reachable"] else ""
    lines = {"database": f"{database['kind']}, {_reached(database)}{schema}"}
    if deliveries := told["deliveries"]:
        oldest = _since(deliveries["oldest_due_seconds"])
        lines["deliveries"] = "{due} due{}, {later} later, {held} held, {claimed} claimed".format(oldest, **deliveries)
        waiting = told["publisher"]
        lines["publisher"] = f"{waiting['unpublished']} due without a hint{_since(waiting['oldest_seconds'])}"
    depth = ", ".join(f"{lane} {number}" for lane, number in (queue["depth"] or {}).items())
    most = "" if queue["depth_is_exact"] else " at most"
    lines["queue"] = f"{queue['kind']}, {_reached(queue)}" + (f", hints{most}: {depth}" if depth else "")
    if "redis" in told:
        lines["redis"] = _reached(told["redis"])
    if "scanner" in told:
        lines["scanner"] = _reached(told["scanner"])
    if told["workers"] is not None:
        lines["workers"] = f"{sum(one['alive'] for one in told['workers'])} alive"
    print_one(lines)
    if told["workers"]:
        click.echo()
        print_table(told["workers"], COLUMNS)


def _reached(part: Mapping[str, Any]) -> str:
    return "reachable" if part["reachable"] else "not reachable"


def _since(seconds: float | None) -> str:
    return "" if seconds is None else f" (the first for {seconds:.0f} s)"
