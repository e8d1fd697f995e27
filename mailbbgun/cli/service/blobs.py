"""``mailbbgun blobs``: compares the store of files with the database."""

import logging
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import NamedTuple
from uuid import UUID

import click

from mailbbgun.attachments import content, repo, uploads
from mailbbgun.attachments.models import Blob, key_of
from mailbbgun.blobs.base import StoredObject
from mailbbgun.cli.terminal import as_json, opened, print_json, print_table
from mailbbgun.core.errors import BlobMissing
from mailbbgun.services import Services
from mailbbgun.sweep.orphans import MARKS

#: Seconds that a file may be without a row: its upload may be about to write it.
YOUNG = 3600

#: The folder of the store where damaged files are put.
DAMAGED = "damaged"

COLUMNS = ("fault", "tenant", "key", "size", "sha256")

log = logging.getLogger("mailbbgun.cli")


class FileFault(NamedTuple):
    """A file or a row without its counterpart, or one that differs from it."""

    fault: str  # lost, damaged, orphan, foreign
    key: str
    size: int
    tenant: UUID | None = None
    sha256: str | None = None


@click.group()
def blobs() -> None:
    """The store of files."""


@blobs.command()
@click.option("--deep", is_flag=True, help="Read every file, and compare its SHA-256.")
@click.option(
    "--repair",
    is_flag=True,
    help="Delete files that no row knows. Put damaged files aside, so that the next upload of the content replaces it. "
    "Count anew how many bytes each tenant has.",
)
@as_json
def check(deep: bool, repair: bool, as_json: bool) -> None:
    """Compare the store of files with the database.

    lost: a row's file is missing; an upload of the same content brings it back. damaged: its size or
    SHA-256 is wrong. orphan: no row knows the file. foreign: a file that this program did not store;
    it is never touched. Exit code 1: there is a fault that was not repaired.
    """
    with opened() as services:
        services.blobs.check()
        checked = Counter[str]()
        faults = list(_faults(services, deep, checked))
        if repair:
            _repair(services, faults)
    counted = Counter(one.fault for one in faults)
    if as_json:
        shown = [one._asdict() | {"tenant": str(one.tenant) if one.tenant else None} for one in faults]
        print_json({"faults": shown, "files": checked["files"], "rows": checked["rows"]})
    else:
        print_table([one._asdict() for one in faults], COLUMNS)
        found = ", ".join(f"{number} {name}" for name, number in sorted(counted.items())) or "no faults"
        click.echo(f"{checked['files']} files, {checked['rows']} rows: {found}", err=True)
    left = counted["lost"] if repair else counted.total() - counted["foreign"]
    if left:
        raise SystemExit(1)


def _faults(services: Services, deep: bool, checked: Counter[str]) -> Iterator[FileFault]:
    """Compare tenant by tenant: the files that are there, then the rows."""
    seen: set[str] = set()
    before = datetime.now(UTC) - timedelta(seconds=YOUNG)
    for folder, files in groupby(services.blobs.keys(""), key=lambda found: found.key.partition("/")[0]):
        if folder in (uploads.FOLDER, DAMAGED, MARKS):
            continue  # expire.py looks after the first, people after the second, orphans.py after the third
        there = list(files)
        checked["files"] += len(there)
        tenant = _tenant(folder)
        seen.add(folder)
        if tenant is None:
            yield from (FileFault("foreign", one.key, one.size) for one in there)
        else:
            yield from _of_tenant(services, tenant, {one.key: one for one in there}, before, deep, checked)
    with services.db.read() as session:
        tenants = repo.tenants_with_blobs(session)
    for tenant in tenants:
        if tenant.hex not in seen:
            yield from _of_tenant(services, tenant, {}, before, deep, checked)


def _tenant(folder: str) -> UUID | None:
    try:
        found = UUID(hex=folder)
    except ValueError:
        return None
    return found if found.hex == folder else None


def _of_tenant(
    services: Services,
    tenant: UUID,
    there: dict[str, StoredObject],
    before: datetime,
    deep: bool,
    checked: Counter[str],
) -> Iterator[FileFault]:
    """Compare the files of a tenant with its rows. ``before``: older files must have a row."""
    after = ""
    while True:
        with services.db.read(tenant) as session:
            rows = repo.all_blobs(session, tenant, after=after)
        if not rows:
            break
        after = rows[-1].sha256
        checked["rows"] += len(rows)
        for row in rows:
            key = key_of(tenant, row.object_id)
            listed = there.pop(key, None)
            if fault := _of_row(services, row, listed, deep):
                yield FileFault(fault, key, row.size, tenant, row.sha256)
    for one in there.values():
        if one.modified < before:
            yield FileFault("orphan", one.key, one.size, tenant)


def _of_row(services: Services, row: Blob, listed: StoredObject | None, deep: bool) -> str | None:
    """Return what is wrong with a blob's file."""
    # What was stored since the files were listed is looked for.
    size = listed.size if listed else services.blobs.size(key_of(row.tenant_id, row.object_id))
    if size is None:
        # Deleted since the row was read, or replaced by another upload: then all is well.
        with services.db.read(row.tenant_id) as session:
            now = repo.blob(session, row.tenant_id, row.sha256)
        return "lost" if now is not None and now.object_id == row.object_id else None
    if size != row.size:
        return "damaged"
    if deep:
        try:
            opened_file = content.opened(services.blobs, row.tenant_id, row.object_id, sha256=row.sha256, size=row.size)
            with opened_file as blocks:
                for _ in blocks:
                    pass
        except BlobMissing:
            return "damaged"
    return None


def _repair(services: Services, faults: list[FileFault]) -> None:
    for one in faults:
        if one.fault == "damaged":
            services.blobs.copy(one.key, f"{DAMAGED}/{one.key}")
    services.blobs.delete([one.key for one in faults if one.fault in ("damaged", "orphan")])
    with services.db.read() as session:
        tenants = repo.tenants_with_blobs(session)
    for tenant in tenants:
        with services.db.write(tenant) as session:
            repo.count_storage(session, tenant)
    for fault, number in Counter(one.fault for one in faults).items():
        log.info("blobs_repaired", extra={"fault": fault, "count": number})
