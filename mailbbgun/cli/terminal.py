"""What all commands share: opening services, validating options, printing."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import click
import orjson
from click.core import ParameterSource
from marshmallow import Schema, ValidationError, fields, validate
from sqlalchemy.orm import Session
from tabulate import tabulate

from mailbbgun import migrations
from mailbbgun.core import logs
from mailbbgun.core.errors import InvalidInput, NotFound
from mailbbgun.core.process import explained_exit, interrupting
from mailbbgun.http.bad_input import sentences
from mailbbgun.services import Services, build, make_folder
from mailbbgun.startup import load_checked
from mailbbgun.tenants import repo
from mailbbgun.tenants.models import Tenant

PROGRAM = "mailbbgun"
PAGE = 1000  # rows of a list read at once; all rows are shown

Entry = TypeVar("Entry")
Command = TypeVar("Command", bound=Callable[..., object])


class Limit(click.ParamType[int | None, str]):
    """A whole number, or ``none``."""

    name = "number|none"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """Return the number, or None for ``none``. The schema checks its range."""
        if value == "none":
            return None
        try:
            return int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a whole number nor none.", param, ctx)


LIMIT = Limit()


class CallersPath(click.Path):
    """A file. A relative path begins where the caller stands: ``bin/mailbbgun`` itself moves to another folder."""

    def __init__(self, *, exists: bool) -> None:
        super().__init__(exists=exists, dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, as a ``Path``."""
        return super().convert(Path(os.environ.get("CALLED_FROM", "."), value), param, ctx)


def as_json(command: Command) -> Command:
    """Give a command the option ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, as the HTTP API answers it.")(command)


def of_tenant(command: Command) -> Command:
    """Give a command the option ``--tenant``."""
    return click.option(
        "--tenant", metavar="NAME-OR-ID", default="default", show_default=True, help="The tenant to work on."
    )(command)


@contextmanager
def opened(*, checked: bool = True, sends: bool = False) -> Iterator[Services]:
    """Build the services and close them at the end of the block.

    Unless ``checked`` is false, the database must have this version's schema. ``sends`` is true for
    commands that connect to mail servers. An error of ours ends the program with one line and an
    exit code.
    """
    with interrupting(), explained_exit(PROGRAM):
        settings = load_checked(sends=sends)
        logs.configure("WARNING", settings.LOG_FORMAT)
        services = build(settings, installed=True)
        try:
            if checked:
                migrations.check(services.db)
                make_folder(settings)
            yield services
        finally:
            services.close()


@contextmanager
def opened_for(tenant: str, *, sends: bool = False) -> Iterator[tuple[Services, UUID]]:
    """Build the services as :func:`opened` does; yield them and the tenant's id."""
    with opened(sends=sends) as services:
        with services.db.read() as session:
            tenant_id = tenant_called(session, tenant).id
        yield services, tenant_id


def filters_of(schema: Schema) -> Callable[[Command], Command]:
    """Give a command one option for each parameter of a schema, with the same name."""

    def given(command: Command) -> Command:
        for attribute, field in reversed(schema.fields.items()):
            name = field.data_key or attribute
            flag, sentence = f"--{name.replace('_', '-')}", field.metadata.get("description", "")
            choices = next((list(one.choices) for one in field.validators if isinstance(one, validate.OneOf)), None)
            if isinstance(field, fields.Boolean):
                command = click.option(f"{flag}/--no-{flag[2:]}", name, default=None, help=sentence)(command)
            else:
                kind: Any = click.Choice(choices, case_sensitive=False) if choices else str
                several, default = getattr(field, "repeatable", False), field.load_default
                told = f"  [default: {default}]" if default is not None and not callable(default) else ""
                command = click.option(flag, name, type=kind, multiple=several, help=sentence + told)(command)
        return command

    return given


def typed_options(context: click.Context) -> dict[str, Any]:
    """Return the options that were typed, by name. Repeatable options are lists."""
    typed = {
        name: value
        for name, value in context.params.items()
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    return {name: list(value) if isinstance(value, tuple) else value for name, value in typed.items()}


def validated(schema: Schema, wanted: Mapping[str, Any], noun: str = "option") -> Any:
    """Return the values that a schema loads. ``noun`` is what an error calls a field.

    Raises :class:`click.UsageError` with all that is wrong.
    """
    try:
        return schema.load(wanted)
    except ValidationError as error:
        raise _usage(sentences(error.messages, schema, wanted, noun)) from error


@contextmanager
def as_usage_error() -> Iterator[None]:
    """Turn :class:`InvalidInput` into :class:`click.UsageError` with all that is wrong."""
    try:
        yield
    except InvalidInput as error:
        raise _usage(error.fields or {}) from error


def _usage(wrong: Mapping[str, Sequence[str]]) -> click.UsageError:
    return click.UsageError(" ".join(f"{field}: {' '.join(why)}" for field, why in wrong.items()))


def _confirmed(question: str) -> bool:
    """Ask for a yes, which may also come through a pipe.

    Raises :class:`click.UsageError` if the input ends without an answer.
    """
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        if sys.stdin.isatty():  # Ctrl-C
            raise
        click.echo(err=True)
        raise click.UsageError("There is nobody to confirm it: --yes does not ask.") from None


def confirm_deletion(what: str, *, yes: bool) -> None:
    """Ask whether something is to be deleted, unless ``yes``. The answer no ends the program with exit code 1."""
    if not yes and not _confirmed(f"Delete {what}?"):
        click.echo("nothing was deleted", err=True)
        sys.exit(1)


def options_of(schema: Schema, *but: str) -> Callable[[Command], Command]:
    """Give a command an option for each field of a schema, except the fields ``but``.

    Option and field have the same name. The field's description is the help text.
    """

    def decorate(command: Command) -> Command:
        for name, field in reversed(schema.fields.items()):
            if name not in but:
                command = _option(name, field)(command)
        return command

    return decorate


def _option(name: str, field: fields.Field[Any]) -> Callable[[Command], Command]:
    flag, sentence = f"--{name.replace('_', '-')}", field.metadata.get("description", "")
    if isinstance(field, fields.Boolean):
        return click.option(f"{flag}/--no-{flag[2:]}", default=None, help=sentence)
    choices = next((list(one.choices) for one in field.validators if isinstance(one, validate.OneOf)), None)
    kind: Any = (
        click.Choice(choices)
        if choices
        else int
        if isinstance(field, fields.Integer)
        else float
        if isinstance(field, fields.Float)
        else str
    )
    return click.option(flag, type=kind, multiple=isinstance(field, fields.List), help=sentence)


def tenant_called(session: Session, called: str) -> Tenant:
    """Return the tenant with that id or name. Raises :class:`NotFound`."""
    identifier = uuid(called)
    found = (repo.tenant(session, identifier) if identifier else None) or repo.tenant_named(session, called)
    if found is None:
        raise NotFound(f"There is no tenant {called!r}.")
    return found


def uuid(text: str) -> UUID | None:
    """Return the UUID that a text spells, or None."""
    try:
        return UUID(text)
    except ValueError:
        return None


def all_pages(page: Callable[[UUID | None], tuple[Sequence[Entry], int, UUID | None]]) -> list[Entry]:
    """Return the entries of all pages.

    ``page`` takes the id to continue after. It returns a page, the total number, and the next such
    id.
    """
    found, _, last = page(None)
    entries = list(found)
    while last:
        found, _, last = page(last)
        entries += found
    return entries


def print_json(value: Any) -> None:
    """Print a value as JSON for programs.

    Other people's texts may contain characters that control a terminal. They are escaped.
    """
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    click.echo("".join(one if one.isprintable() or one == "\n" else json.dumps(one)[1:-1] for one in text))


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print rows as an aligned table: never truncated, never coloured."""
    click.echo(
        tabulate(
            [[_text(row[name]) for name in columns] for row in rows], columns, tablefmt="plain", disable_numparse=True
        )
    )


def print_page(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], count: int, last: UUID | None) -> None:
    """Print a page of a list as a table, and, if it is not all of ``count``, how to go on after the id ``last``."""
    print_table(rows, columns)
    if len(rows) < count:
        click.echo(f"{len(rows)} of {count}" + (f"; to go on: --after {last}" if last else ""), err=True)


def print_one(row: Mapping[str, Any]) -> None:
    """Print one thing, one property per line."""
    click.echo(tabulate([[name, _text(value)] for name, value in row.items()], tablefmt="plain", disable_numparse=True))


def printable(text: str) -> str:
    """Return a text of several lines without characters that control a terminal: they are escaped."""
    return "".join(one if one.isprintable() or one == "\n" else repr(one)[1:-1] for one in text)


def _text(value: Any) -> str:
    if value is None or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    # A name may contain characters that control a terminal.
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
