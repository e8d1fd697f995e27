"""Checks and stores changes of settings."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from mailbbgun import startup
from mailbbgun.core.errors import ConfigurationError, InvalidInput, PreconditionFailed
from mailbbgun.runtime import repo
from mailbbgun.runtime.live import LIVE, as_json, checked, described, usable_changes, with_changes
from mailbbgun.settings.settings import Settings

#: What the audit calls a change of one setting, and the wish that the SMTP door restart.
CHANGED, RESTART = "configuration.changed", "smtpd.restart"

#: Octets that one value may have as JSON: a list of timeouts has some hundred.
LARGEST = 4096

#: Adds to the audit: the action and what is told of it.
Audit = Callable[[str, Mapping[str, Any]], None]

_INVALID = "Some settings are not valid."


def change(
    session: Session, given: Settings, wanted: Mapping[str, Any], by: UUID | None, audit: Audit, expected: int | None
) -> None:
    """Change settings: each in ``wanted`` to a value, or, with None, back to what the sysadmin ``given`` has.

    All of them or none. ``expected`` is the version that they must have now, if the client named one. Raises
    :class:`InvalidInput`, :class:`PreconditionFailed`.
    """
    now = repo.version(session, locked=True).version
    if expected is not None and expected != now:
        raise PreconditionFailed(f"The configuration has changed: its version is {now}, not {expected}. Read it again.")
    before = dict(repo.changes(session))
    after = {name: value for name, value in before.items() if name in LIVE and name not in wanted}
    for name, value in wanted.items():
        if value is not None:
            after[name] = _value(name, value)
    _check(given, after)
    at, old = datetime.now(UTC), usable_changes(given, before)[0]
    moved = [name for name in wanted if after.get(name) != before.get(name)]
    for name in moved:
        if name in after:
            repo.put(session, name, after[name], at, by)
        else:
            repo.remove(session, name)
        new = after[name] if name in after else as_json(getattr(given, name))
        audit(CHANGED, {"name": name, "from": as_json(getattr(old, name)), "to": new, "reset": name not in after})
    if moved:
        repo.changed(session)


def restart(session: Session, audit: Audit) -> int:
    """Ask all processes of the SMTP door to restart. Return how often that was asked for by now."""
    repo.restart_smtpd(session)
    audit(RESTART, {})
    return repo.version(session).smtpd_restarts


def shape(session: Session, given: Settings) -> dict[str, Any]:
    """Return what ``schemas.Configuration`` shows."""
    now = repo.version(session).version
    rows = {one.name: one for one in repo.stored(session)}
    used, _ = usable_changes(given, repo.changes(session))
    return {"version": now, "settings": {name: _shape_of(name, given, used, rows.get(name)) for name in LIVE}}


def _shape_of(name: str, given: Settings, used: Settings, row: Any) -> dict[str, Any]:
    its = described(name)
    return {
        "value": as_json(getattr(used, name)),
        "file_value": as_json(getattr(given, name)),
        "changed_at": row and row.changed_at,
        "changed_by": row and row.changed_by,
        "description": its["doc"],
        "least": its["least"],
        "most": its["most"],
    }


def _value(name: str, value: Any) -> Any:
    """Return a value as it is stored. Raises :class:`InvalidInput`."""
    try:
        if len(json.dumps(value)) > LARGEST:
            raise InvalidInput(_INVALID, fields={name: [f"Has more than {LARGEST} bytes."]})
        return as_json(checked(name, value))
    except (ConfigurationError, RecursionError) as error:
        raise InvalidInput(_INVALID, fields={name: [_sentence(str(error), name)]}) from error


def _check(given: Settings, after: Mapping[str, Any]) -> None:
    """Check the settings together, as programs do at their start. Raises :class:`InvalidInput`."""
    try:
        startup.check(with_changes(given, after))
    except ConfigurationError as error:
        name, _, _ = str(error).partition(":")
        raise InvalidInput(_INVALID, fields={name: [_sentence(str(error), name)]}) from error


def _sentence(error: str, name: str) -> str:
    """Return the text of an error as a sentence that does not repeat the setting's name."""
    text = error.removeprefix(f"{name}: ")
    return f"{text[:1].upper()}{text[1:]}."
