"""``mailbbgun config``: settings that change while the service runs; and ``mailbbgun restart``."""

from collections.abc import Mapping, Sequence
from typing import Any

import click
from sqlalchemy.orm import Session

from mailbbgun.cli.terminal import as_json, as_usage_error, opened, print_json, print_one, print_table, validated
from mailbbgun.core.caller import ANYBODY
from mailbbgun.runtime import edit
from mailbbgun.runtime.live import LIVE
from mailbbgun.runtime.schemas import SMTPD, Configuration, ConfigurationChange, RestartAsked
from mailbbgun.tenants import audit

COLUMNS = ("name", "value", "file_value", "changed_at", "changed_by")


def _like(_context: click.Context, _argument: click.Parameter, begun: str) -> list[str]:
    """Return the settings that begin with what was typed, for the Tab key."""
    return [name for name in LIVE if name.startswith(begun.upper())]


_names = click.argument("names", metavar="NAME...", nargs=-1, shell_complete=_like)


@click.group()
def config() -> None:
    """Settings that change while the service runs: each process uses a change within two seconds.

    Run it with the config.py and the environment of the service: file_value is what they say.
    """


@config.command()
@_names
@click.option("--changed", is_flag=True, help="Only those that have another value than the file.")
@as_json
def show(names: Sequence[str], changed: bool, as_json: bool) -> None:
    """Show the settings that may change while the service runs, or only those named.

    One alone is shown with its description and its bounds.
    """
    _check(names)
    with opened() as services, services.db.read() as session:
        shown: Any = Configuration().dump(edit.shape(session, services.settings))
    its = shown["settings"]
    chosen = {one: its[one] for one in names or its if not changed or its[one]["changed_at"]}
    if as_json:
        print_json(shown | {"settings": chosen})
    elif len(names) == 1 and chosen:
        print_one(_for_people(names[0], chosen[names[0]]))
    else:
        print_table([_for_people(name, one) for name, one in chosen.items()], COLUMNS)


@config.command("set")
@click.argument("changes", metavar="NAME=VALUE...", nargs=-1, required=True, shell_complete=_like)
@as_json
def change(changes: Sequence[str], as_json: bool) -> None:
    """Change settings: all of them, or none if one is wrong.

    A VALUE is written as in the environment: 50, no, one,another or connect=10,data=60.
    """
    wanted = {}
    for one in changes:
        name, equals, value = one.partition("=")
        if not equals:
            raise click.UsageError(f"{one!r} is not NAME=VALUE.")
        wanted[name] = value
    _change(wanted, as_json)


@config.command()
@_names
@click.option("--all", "every", is_flag=True, help="All that were changed.")
@as_json
def reset(names: Sequence[str], every: bool, as_json: bool) -> None:
    """Let settings have the value of the file again."""
    if every == bool(names):
        raise click.UsageError("Name the settings, or give --all.")
    _change(dict.fromkeys(names or LIVE), as_json)


@click.command()
@click.argument("program", type=click.Choice([SMTPD]))
@as_json
def restart(program: str, as_json: bool) -> None:
    """Restart the SMTP door within two seconds: it reads config.py and its certificate anew.

    It listens all the time. Mail that is being received is taken to its end; idle clients are told to connect again.
    """
    with opened() as services, services.db.write() as session:
        restarts = edit.restart(session, _auditor(session))
    if as_json:
        print_json(RestartAsked().dump({"of": program, "restarts": restarts}))
    else:
        click.echo(f"{program} restarts within two seconds; its log then has smtpd_restarted")


def _check(names: Sequence[str]) -> None:
    validated(ConfigurationChange(), dict.fromkeys(names), "setting")


def _change(wanted: Mapping[str, str | None], as_json: bool) -> None:
    """Change settings, and print them as they are then."""
    wanted = validated(ConfigurationChange(), wanted, "setting")
    with opened() as services, as_usage_error(), services.db.write() as session:
        before = edit.shape(session, services.settings)["settings"]
        edit.change(session, services.settings, wanted, None, _auditor(session), None)
        shown: Any = Configuration().dump(edit.shape(session, services.settings))
    if as_json:
        print_json(shown)
        return
    its = {name: one for name, one in shown["settings"].items() if name in wanted}
    if len(wanted) == len(LIVE):  # --all
        its = {name: one for name, one in its.items() if before[name]["changed_at"]}
    print_table([_for_people(name, one) for name, one in its.items()], COLUMNS)


def _auditor(session: Session) -> edit.Audit:
    """Return what adds to the audit of the default tenant, as a request without a key does."""
    return lambda action, data: audit.note(session, ANYBODY, None, action, data)


def _for_people(name: str, shown: Mapping[str, Any]) -> dict[str, Any]:
    """Return a setting with its values as ``set`` takes them."""
    values = {one: _text(shown[one]) for one in ("value", "file_value")}
    bounds = {one: _number(shown[one]) for one in ("least", "most")}
    return {"name": name} | {**shown, **values, **bounds}


def _number(value: float | None) -> float | int | None:
    return int(value) if value is not None and value.is_integer() else value


def _text(value: Any) -> Any:
    if isinstance(value, Mapping):
        return ",".join(f"{key}={_number(one)}" for key, one in value.items())
    return ",".join(map(str, value)) if isinstance(value, list) else value
