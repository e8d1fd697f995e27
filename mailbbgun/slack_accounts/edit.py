"""Adds and changes Slack accounts: checks values, encrypts secrets, and checks who may.

A key with ``senders`` may not: messages to Slack are from nobody whom a key may be limited to.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from mailbbgun.core.caller import Caller, KeyKind
from mailbbgun.core.errors import Conflict, Forbidden, InvalidInput, NotFound
from mailbbgun.database.crypto import Vault
from mailbbgun.relays.slack.client import webhook_permitted
from mailbbgun.slack_accounts import repo
from mailbbgun.slack_accounts.models import SlackAccount
from mailbbgun.tenants import repo as tenants

#: Most accounts of a tenant.
MOST = 100
KINDS = ("bot", "webhook")

Fields = Mapping[str, Any]


def check_caller(who: Caller) -> None:
    """Raise :class:`Forbidden` for a key that is limited to some senders or recipients."""
    if who.senders or who.kind is KeyKind.TEAM:
        limit = "senders" if who.senders else "guests"
        raise Forbidden(f"This API key has {limit}: it is for mail. Slack takes a key without them.")


def create(
    session: Session, vault: Vault, api_url: str, tenant_id: UUID, account_id: UUID, given: Fields
) -> SlackAccount:
    """Add an account. The first of a tenant becomes its default unless it says otherwise.

    Raises :class:`InvalidInput`, and :class:`Conflict` if there are too many, or one of that name.
    """
    if ("bot_token" in given) == ("webhook_url" in given):
        what = "both" if "bot_token" in given else "neither"
        raise _wrong("bot_token", f"Give one of bot_token and webhook_url; you gave {what}.")
    secret = _secret(vault, api_url, given)
    tenants.lock(session, tenant_id)
    before = repo.count(session, tenant_id)
    if before >= MOST:
        raise Conflict(f"There are {MOST} Slack accounts already, which is the most.")
    default = given.get("is_default", before == 0)
    if default:
        repo.clear_default(session, tenant_id)
    now = datetime.now(UTC)
    made = SlackAccount(
        id=account_id,
        tenant_id=tenant_id,
        name=given["name"],
        default_channel=given.get("default_channel"),
        is_default=default,
        enabled=given.get("enabled", True),
        created_at=now,
        updated_at=now,
        **secret,
    )
    with _name_taken():
        session.add(made)
        session.flush()
    return made


def change(session: Session, vault: Vault, api_url: str, tenant_id: UUID, account_id: UUID, given: Fields) -> None:
    """Change the given fields of an account. A token replaces a webhook, and the other way round.

    Raises :class:`NotFound`, :class:`InvalidInput`, :class:`Conflict` if another account has the name.
    """
    if "bot_token" in given and "webhook_url" in given:
        raise _wrong("bot_token", "Give one of bot_token and webhook_url; you gave both.")
    secret = _secret(vault, api_url, given)
    tenants.lock(session, tenant_id)
    found(session, tenant_id, account_id)
    if given.get("is_default"):
        repo.clear_default(session, tenant_id)
    kept = {name: value for name, value in given.items() if name not in ("bot_token", "webhook_url")}
    with _name_taken():
        repo.change(session, tenant_id, account_id, kept | secret | {"updated_at": datetime.now(UTC)})


def found(session: Session, tenant_id: UUID, account_id: UUID) -> SlackAccount:
    """Return an account of a tenant. Raises :class:`NotFound`."""
    account = repo.account(session, tenant_id, account_id)
    if account is None:
        raise missing()
    return account


def missing() -> NotFound:
    """Return the error for an account that does not exist or belongs to another tenant."""
    return NotFound("There is no such Slack account.")


def _secret(vault: Vault, api_url: str, given: Fields) -> dict[str, Any]:
    """Return the columns of a secret that is given, encrypted. Raises :class:`InvalidInput`."""
    if token := given.get("bot_token"):
        return {"bot_token": vault.encrypt(token), "webhook_url": None, "secret_shown": f"{token[:5]}{_end(token)}"}
    if url := given.get("webhook_url"):
        if not webhook_permitted(url, api_url):
            raise _wrong(
                "webhook_url", "Not an incoming webhook of Slack, like https://hooks.slack.com/services/T…/B…/…"
            )
        host = url.partition("://")[2].partition("/")[0][:40]
        return {"bot_token": None, "webhook_url": vault.encrypt(url), "secret_shown": f"{host}/{_end(url)}"}
    return {}


def _end(secret: str) -> str:
    """Return the end of a secret; nothing of one that is short."""
    return f"…{secret[-4:]}" if len(secret) >= 24 else "…"


def _wrong(field: str, why: str) -> InvalidInput:
    return InvalidInput("Some fields are not valid.", fields={field: [why]})


@contextmanager
def _name_taken() -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        raise Conflict("There is a Slack account of that name.") from error
