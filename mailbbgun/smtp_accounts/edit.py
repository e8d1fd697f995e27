"""Adds and changes accounts: fills in defaults, checks values, encrypts passwords, and checks who may.

What an API key with ``senders`` may do follows one rule: it uses and changes only its *own*
accounts, and they must stay its own. An account is a key's own if ``from_email`` is one of the
key's senders, and ``envelope_from`` is one of them or null. An account without ``from_email`` is no
such key's own, since every key of the tenant may send as anybody through it.

Two changes of an own account would change for all keys who may send, so they are refused too: to
replace a default account that is not the key's own, and to leave the tenant without an enabled
account, since From may be anything then.

A key without ``senders`` may use all accounts of its tenant.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import Conflict, Forbidden, InvalidInput, NotFound, NotPermitted
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


#: The fields that decide whose an account is.
_ADDRESSES = ("from_email", "envelope_from")
_NEEDS_FROM = "This API key has senders, so `from_email` must be one of them: without it everybody could be From."


def check_addresses(who: Caller, given: Mapping[str, Any]) -> None:
    """Raise :class:`InvalidInput` for each address among these fields that the key may not send as.

    ``from_email`` may not be null. Fields that are not given are not checked.
    """
    wrong = {name: [f"This API key may not send as {given[name]}."] for name in _foreign(who, given)}
    if who.senders and "from_email" in given and given["from_email"] is None:
        wrong["from_email"] = [_NEEDS_FROM]
    if wrong:
        raise InvalidInput("Some fields are not valid.", fields=wrong)


def check_new(session: Session, who: Caller, given: Mapping[str, Any]) -> None:
    """Raise :class:`Forbidden` if the key may not add an account with these fields.

    The fields must have passed :func:`check_addresses`. Locks the tenant's row.
    """
    tenants.lock(session, who.tenant_id)
    if given.get("is_default"):
        _check_default(session, who)


def check_change(session: Session, who: Caller, account_id: UUID, given: Mapping[str, Any]) -> None:
    """Raise :class:`Forbidden` or :class:`InvalidInput` if the key may not change these fields.

    Locks the tenant's row. Raises :class:`NotFound` if there is no such account.
    """
    account = _locked(session, who, account_id)
    check_own(who, account)
    check_addresses(who, given)
    if given.get("is_default"):
        _check_default(session, who)
    if given.get("enabled") is False:
        _check_others_enabled(session, who, account)


def check_removal(session: Session, who: Caller, account_id: UUID) -> None:
    """Raise :class:`Forbidden` if the key may not delete this account.

    Locks the tenant's row. Raises :class:`NotFound` if there is no such account.
    """
    account = _locked(session, who, account_id)
    check_own(who, account)
    _check_others_enabled(session, who, account)


def check_own(who: Caller, account: SMTPAccount) -> None:
    """Raise :class:`Forbidden` if the key has senders and the account is not its own."""
    if not who.senders:
        return
    fields = {name: getattr(account, name) for name in _ADDRESSES}
    foreign = [f"{name} is {fields[name]}" for name in _foreign(who, fields)]
    if account.from_email is None:
        foreign.append("from_email is null: it sends as anybody")
    if foreign:
        raise Forbidden(
            "This API key has senders, and may use and change only SMTP accounts that send as these. "
            f"Of {account.setting_name!r} {' and '.join(foreign)}."
        )


def _foreign(who: Caller, fields: Mapping[str, Any]) -> list[str]:
    """Return the names of the address fields with an address that the key may not send as."""
    return [name for name in _ADDRESSES if fields.get(name) is not None and not who.may_send_as(fields[name])]


def _locked(session: Session, who: Caller, account_id: UUID) -> SMTPAccount:
    tenants.lock(session, who.tenant_id)
    account = repo.account(session, who.tenant_id, account_id)
    if account is None:
        raise missing()
    return account


def _check_default(session: Session, who: Caller) -> None:
    replaced = repo.default(session, who.tenant_id)
    if replaced is not None:
        check_own(who, replaced)


def _check_others_enabled(session: Session, who: Caller, account: SMTPAccount) -> None:
    if who.senders and account.enabled and not repo.another_enabled(session, who.tenant_id, account.id):
        raise Forbidden(
            f"{account.setting_name!r} is the only enabled SMTP account: without it all keys could send as anybody. "
            "That takes an API key without senders."
        )
