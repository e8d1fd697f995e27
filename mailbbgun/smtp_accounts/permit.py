"""Decides which SMTP accounts an API key with ``senders`` may use.

One rule: such a key uses and changes only its *own* accounts, and they must stay its own. An
account is a key's own if ``from_email`` is one of the key's senders, and ``envelope_from`` is one
of them or null. An account without ``from_email`` is no such key's own, since every key of the
tenant may send as anybody through it.

Two changes of an own account would change for all keys who may send, so they are refused too: to
replace a default account that is not the key's own, and to leave the tenant without an enabled
account, since From may be anything then.

A key without ``senders`` may use all accounts of its tenant.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import Forbidden, InvalidInput
from mailbbgun.smtp_accounts import repo
from mailbbgun.smtp_accounts.edit import missing
from mailbbgun.smtp_accounts.models import SMTPAccount
from mailbbgun.tenants import repo as tenants

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
