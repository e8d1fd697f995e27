"""``mailbbgun files``: keeps shared files, and gives them out."""

import mimetypes
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from mailbbgun.attachments import content
from mailbbgun.attachments.inspection import Inspector
from mailbbgun.attachments.receive import UNKNOWN_TYPE
from mailbbgun.blobs.base import BLOCK
from mailbbgun.cli.terminal import (
    PAGE,
    CallersPath,
    all_pages,
    as_json,
    as_usage_error,
    filters_of,
    of_tenant,
    opened_for,
    print_json,
    print_one,
    print_table,
    typed_options,
    uuid,
    validated,
)
from mailbbgun.core.caller import Caller, Scope
from mailbbgun.core.errors import NotFound
from mailbbgun.database.db import Database
from mailbbgun.events.changes.refused_files import RefusedFiles
from mailbbgun.files import change, find, keep, repo
from mailbbgun.files.models import NamedFile
from mailbbgun.files.schemas import FileFilters, SharedFile, UploadTerms

COLUMNS = ("name", "size", "content_type", "test", "expires_at", "id")


class _Filters(FileFilters):
    """The filters of a list, which is printed whole."""

    class Meta:
        """No pages."""

        exclude = ("limit", "offset", "after")


class _Terms(UploadTerms):
    """Terms without metadata, which :program:`curl` can give."""

    class Meta:
        """No metadata."""

        exclude = ("metadata",)


@click.group()
def files() -> None:
    """Shared files. FILE is a name or an id."""


@files.command("list")
@filters_of(_Filters())
@of_tenant
@as_json
@click.pass_context
def index(context: click.Context, /, tenant: str, as_json: bool, **_: Any) -> None:
    """List all files of a tenant that match, newest first."""
    ours = ("tenant", "as_json")
    filters = validated(_Filters(), {name: value for name, value in typed_options(context).items() if name not in ours})
    with opened_for(tenant) as (services, tenant_id), services.db.read(tenant_id) as session:
        found = all_pages(
            lambda after: repo.page(session, repo.WantedFiles(tenant_id=tenant_id, limit=PAGE, after=after, **filters))
        )
        shown: Any = SharedFile(many=True).dump(found)
    if as_json:
        print_json({"files": shown, "count": len(shown)})
    else:
        print_table(shown, COLUMNS)


@files.command()
@click.argument("path", type=CallersPath(exists=True))
@click.argument("name")
@filters_of(_Terms())
@of_tenant
@as_json
@click.pass_context
def put(context: click.Context, /, path: Path, name: str, tenant: str, as_json: bool, **_: Any) -> None:
    """Keep the file at PATH under NAME, like reports/2026/may.pdf."""
    ours = ("tenant", "as_json", "path", "name")
    terms = validated(_Terms(), {key: value for key, value in typed_options(context).items() if key not in ours})
    declared = mimetypes.guess_type(name)[0] or UNKNOWN_TYPE
    with opened_for(tenant) as (services, tenant_id), as_usage_error(), path.open("rb") as file:
        blocks = iter(lambda: file.read(BLOCK), b"")
        inspector, who = Inspector(services, RefusedFiles(services.db).tell), _caller(tenant_id)
        made, _new = keep.keep_body(
            services, inspector, who, blocks, name, declared, keep.FileTerms(**terms), size=path.stat().st_size
        )
    _print(made, as_json=as_json)


@files.command()
@click.argument("file")
@click.argument("path", type=CallersPath(exists=False))
@of_tenant
def get(file: str, path: Path, tenant: str) -> None:
    """Write the content of FILE to PATH."""
    with opened_for(tenant) as (services, tenant_id):
        its = _called(services.db, tenant_id, file)
        blob = find.content_of(services.db, its)
        stored = content.opened(services.blobs, tenant_id, blob.object_id, sha256=blob.sha256, size=blob.size)
        with stored as blocks, path.open("wb") as written:
            for block in blocks:
                written.write(block)


@files.command()
@click.argument("file")
@click.argument("name")
@of_tenant
@as_json
def rename(file: str, name: str, tenant: str, as_json: bool) -> None:
    """Give FILE another NAME."""
    with opened_for(tenant) as (services, tenant_id), as_usage_error():
        its = _called(services.db, tenant_id, file)
        inspector = Inspector(services, RefusedFiles(services.db).tell)
        made = change.change(services.db, inspector, _caller(tenant_id), its.id, {"name": name})
    _print(made, as_json=as_json)


@files.command()
@click.argument("file")
@of_tenant
def delete(file: str, tenant: str) -> None:
    """Delete FILE. Links to it end."""
    with opened_for(tenant) as (services, tenant_id):
        change.remove(services.db, _caller(tenant_id), _called(services.db, tenant_id, file).id)


def _called(db: Database, tenant_id: UUID, file: str) -> NamedFile:
    """Return the file with this id or name; of two with one name that which no test key made."""
    with db.read(tenant_id) as session:
        found = repo.file(session, tenant_id, identifier) if (identifier := uuid(file)) else None
        for test in (False, True):
            found = found or repo.called(session, tenant_id, file, test=test)
    if found is None:
        raise NotFound(f"There is no file {file!r}.")
    return found


def _caller(tenant_id: UUID) -> Caller:
    return Caller(tenant_id, scopes=frozenset(Scope))


def _print(made: NamedFile, *, as_json: bool) -> None:
    shown: Any = SharedFile().dump(made)
    if as_json:
        print_json(shown)
    else:
        print_one(shown)
