"""Adds and changes accounts: fills in defaults, checks values and encrypts passwords."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from mailbbgun.core.errors import Conflict, InvalidInput, NotFound, NotPermitted
from mailbbgun.core.net import Guard
from mailbbgun.database.crypto import Vault
from mailbbgun.relays.url import PORTS, usual_security
from mailbbgun.smtp_accounts import repo
from mailbbgun.smtp_accounts.account import PROTOCOL_OF, SECURITIES
from mailbbgun.smtp_accounts.models import SMTPAccount
from mailbbgun.smtp_accounts.presets import Preset, preset
from mailbbgun.tenants import repo as tenants

#: Most accounts of a tenant.
MOST = 100
LIMITS = ("max_per_second", "max_per_minute", "max_per_day", "max_recipients_per_message")

#: A change of one of these fields changes where the password goes, or who can read it on its way.
DESTINATION = ("smtp_host", "smtp_port", "security_protocol", "ca_certificate")

_DEFAULTS: Mapping[str, Any] = {
    "preset": None,
    "smtp_username": None,
    "smtp_password": None,
    "ca_certificate": None,
    "from_email": None,
    "from_name": None,
    "envelope_from": None,
    "priority": 10,
    "weight": 1,
    "max_connections": 5,
    "max_per_second": None,
    "max_per_minute": None,
    "max_per_day": None,
    "max_recipients_per_message": None,
    "send_interval": None,
    "enabled": True,
}

Fields = Mapping[str, Any]


def filled(given: Fields, guard: Guard) -> dict[str, Any]:
    """Return all fields of a new account: those given, then those of its preset, then defaults.

    The password is not encrypted yet. Raises :class:`InvalidInput`.
    """
    known = preset(given["preset"]) if given.get("preset") else None
    values = {**_DEFAULTS, "recipient_domains": [], **(_of_preset(known) if known else {}), **given}
    if "smtp_host" not in values:
        raise InvalidInput(
            "Some fields are not valid.", fields={"smtp_host": ["`smtp_host` is required unless a `preset` says it."]}
        )
    port = values.get("smtp_port")
    usual = known.security if known and port != PORTS["tls"] else PROTOCOL_OF[usual_security(port)]
    values.setdefault("security_protocol", usual)
    same = known is not None and values["security_protocol"] == known.security
    values.setdefault("smtp_port", known.port if known and same else PORTS[SECURITIES[values["security_protocol"]]])
    _check_login(values["smtp_username"], values["smtp_password"] is not None)
    values["smtp_host"] = permitted(guard, values["smtp_host"], values["smtp_port"])
    return values


def create(session: Session, vault: Vault, tenant_id: UUID, account_id: UUID, values: Fields) -> SMTPAccount:
    """Add an account with the values of :func:`filled`.

    The first account of a tenant becomes its default unless the values say otherwise. Raises
    :class:`Conflict` if the tenant has too many accounts, or one of that name.
    """
    tenants.lock(session, tenant_id)
    before = repo.count(session, tenant_id)
    if before >= MOST:
        raise Conflict(f"There are {MOST} accounts already, which is the most.")
    default = values.get("is_default", before == 0)
    if default:
        repo.clear_default(session, tenant_id)
    now = datetime.now(UTC)
    kept = {**values, "is_default": default, "smtp_password": _encrypted(vault, values["smtp_password"])}
    made = SMTPAccount(id=account_id, tenant_id=tenant_id, created_at=now, updated_at=now, **kept)
    with _name_taken():
        session.add(made)
        session.flush()
    return made


def change(session: Session, vault: Vault, guard: Guard, tenant_id: UUID, account_id: UUID, given: Fields) -> None:
    """Change the given fields of an account.

    A change of a :data:`DESTINATION` field needs the password again. Otherwise a caller who may not
    read the password could have it sent to a server of its own. Raises :class:`NotFound`,
    :class:`InvalidInput`, :class:`Conflict` if another account has the name.
    """
    tenants.lock(session, tenant_id)
    account = repo.account(session, tenant_id, account_id)
    if account is None:
        raise missing()
    values = dict(given)
    if "smtp_host" in values or "smtp_port" in values:
        values["smtp_host"] = permitted(
            guard, values.get("smtp_host", account.smtp_host), values.get("smtp_port", account.smtp_port)
        )
    if values.get("smtp_username", account.smtp_username) is None:
        values.setdefault("smtp_password", None)  # without a user name there is no AUTH
    kept = "smtp_password" not in values and account.smtp_password is not None
    if kept and any(name in values and values[name] != getattr(account, name) for name in DESTINATION):
        again = "Give the password again: host, port, security or authority have changed."
        raise InvalidInput("Some fields are not valid.", fields={"smtp_password": [again]})
    _check_login(values.get("smtp_username", account.smtp_username), kept or values.get("smtp_password") is not None)
    if "smtp_password" in values:
        values["smtp_password"] = _encrypted(vault, values["smtp_password"])
    if values.get("is_default"):
        repo.clear_default(session, tenant_id)
    with _name_taken():
        repo.change(session, tenant_id, account_id, values | {"updated_at": datetime.now(UTC)})


def permitted(guard: Guard, host: str, port: int) -> str:
    """Return a host in the form that is stored.

    Raises :class:`InvalidInput` for the field of host or port if connections to it are forbidden.
    """
    try:
        return guard.check(host, port)
    except NotPermitted as error:
        raise InvalidInput("Some fields are not valid.", fields={f"smtp_{error.about}": [f"{error}."]}) from error


def missing() -> NotFound:
    """Return the error for an account that does not exist or belongs to another tenant."""
    return NotFound("There is no such account.")


@contextmanager
def _name_taken() -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        raise Conflict("There is an account of that name.") from error


def _of_preset(known: Preset) -> dict[str, Any]:
    limits = {name: getattr(known, name) for name in (*LIMITS, "max_connections") if getattr(known, name) is not None}
    return {"smtp_host": known.host, "smtp_username": known.username, **limits}


def _check_login(username: str | None, password: bool) -> None:
    if (username is None) == password:
        name, why = (
            ("smtp_username", "`smtp_username` is required beside `smtp_password`.")
            if password
            else (
                "smtp_password",
                "`smtp_password` is required beside `smtp_username`.",
            )
        )
        raise InvalidInput("Some fields are not valid.", fields={name: [why]})


def _encrypted(vault: Vault, password: str | None) -> str | None:
    return None if password is None else vault.encrypt(password)
