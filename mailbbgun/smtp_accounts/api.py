"""The HTTP routes of SMTP accounts, ``/smtp-accounts``.

They need the scope ``accounts``; those that show a password need ``accounts:reveal``.
"""

import logging
from typing import Any, cast
from uuid import UUID

from flask import request
from sqlalchemy.orm import Session

from mailbbgun.core.caller import KeyKind, Scope
from mailbbgun.core.errors import InvalidInput, NotFound
from mailbbgun.database import idempotency
from mailbbgun.database.db import after_commit
from mailbbgun.http.blueprint import Blueprint
from mailbbgun.http.gate import caller, needs
from mailbbgun.http.provided import provided
from mailbbgun.http.responses import created
from mailbbgun.http.schemas import LOCATION, REPLAYED, Page, Repeatable
from mailbbgun.http.urls import NEXT_PAGE, address_of, next_page
from mailbbgun.services import Services
from mailbbgun.smtp_accounts import edit, repo, schemas
from mailbbgun.smtp_accounts.connection_test import ConnectionTests
from mailbbgun.smtp_accounts.health import AccountHealth, look
from mailbbgun.smtp_accounts.models import SMTPAccount
from mailbbgun.smtp_accounts.presets import PRESETS
from mailbbgun.tenants import audit, keys

blueprint = Blueprint("smtp_accounts", __name__, description="The servers your mail leaves through.")

_NONE = "No such account."
_NAMED = "There is an account of that name, or there are too many."
_NOT_OWN = {
    scope: f"The API key lacks the scope {scope}, or has senders, and the account or the default account sends as "
    "others."
    for scope in (Scope.ACCOUNTS, Scope.REVEAL)
}
_UNREADABLE = (
    "secret_unreadable: ENCRYPTION_KEYS lacks the key that encrypted the password. "
    "It is kept, and readable when the key is back."
)

log = logging.getLogger("mailbbgun.accounts")


@blueprint.route("/smtp-accounts", methods=["GET"])
@blueprint.arguments(Page, location="query")
@blueprint.response(200, schemas.Accounts, headers=NEXT_PAGE)
@needs(Scope.ACCOUNTS)
def index(page: dict[str, Any]) -> Any:
    """List your SMTP accounts, newest first"""
    tenant_id = caller().tenant_id
    with provided(Services).db.read(tenant_id) as session:
        accounts, count, last = repo.accounts(session, tenant_id, **page)
    return {"smtp_accounts": accounts, "count": count}, 200, next_page(last)


@blueprint.route("/smtp-accounts", methods=["POST"])
@blueprint.arguments(schemas.NewAccount)
@blueprint.arguments(Repeatable, location="headers")
@blueprint.response(201, schemas.AccountShape, headers=LOCATION | REPLAYED)
@blueprint.alt_response(409, description=_NAMED)
@blueprint.alt_response(422, description="The Idempotency-Key was used for another body.")
@blueprint.alt_response(403, description=_NOT_OWN[Scope.ACCOUNTS])
@needs(Scope.ACCOUNTS)
def create(wanted: dict[str, Any], key: dict[str, str | None]) -> Any:
    """Set up an SMTP account

    From then on your mail leaves through your accounts only, not by the service's own SMTP_URL. A
    key with senders must give a from_email that is one of them.
    """
    services, tenant_id = provided(Services), caller().tenant_id
    edit.check_addresses(caller(), {"from_email": None} | wanted)
    values = edit.filled(wanted, provided(ConnectionTests).guard)

    def add(account_id: UUID) -> dict[str, Any]:
        edit.check_new(session, caller(), wanted)
        return _shape(edit.create(session, services.vault, tenant_id, account_id, values))

    with services.db.write(tenant_id) as session:
        claim = _claim(session, key["key"], wanted)
        answer, replayed = idempotency.once(session, claim, services.settings.IDEMPOTENCY_SECONDS, add)
    return created(answer, address_of("smtp_accounts.show", account_id=answer["id"]), replayed)


@blueprint.route("/smtp-accounts/<uuid:account_id>", methods=["GET"])
@blueprint.response(200, schemas.AccountDetails)
@blueprint.alt_response(404, description=_NONE)
@needs(Scope.ACCOUNTS)
def show(account_id: UUID) -> Any:
    """Show an SMTP account and its health"""
    return _details(caller().tenant_id, account_id)


@blueprint.route("/smtp-accounts/<uuid:account_id>", methods=["PATCH"])
@blueprint.arguments(schemas.AccountChange)
@blueprint.response(200, schemas.AccountDetails)
@blueprint.alt_response(404, description=_NONE)
@blueprint.alt_response(409, description=_NAMED)
@blueprint.alt_response(403, description=_NOT_OWN[Scope.ACCOUNTS])
@needs(Scope.ACCOUNTS)
def change(wanted: dict[str, Any], account_id: UUID) -> Any:
    """Change an SMTP account

    Every process applies the change within a second. To change host, port, security or certificate
    authorities, give the password again. A key with senders changes only accounts that send as
    these.
    """
    services, tenant_id = provided(Services), caller().tenant_id
    with services.db.write(tenant_id) as session:
        edit.check_change(session, caller(), account_id, wanted)
        edit.change(session, services.vault, provided(ConnectionTests).guard, tenant_id, account_id, wanted)
    return _details(tenant_id, account_id)


@blueprint.route("/smtp-accounts/<uuid:account_id>", methods=["DELETE"])
@blueprint.response(204)
@blueprint.alt_response(404, description=_NONE)
@blueprint.alt_response(403, description=_NOT_OWN[Scope.ACCOUNTS])
@needs(Scope.ACCOUNTS)
def remove(account_id: UUID) -> Any:
    """Delete an SMTP account

    Pending mail leaves through your other accounts; if there are none, by the service's SMTP_URL.
    """
    tenant_id = caller().tenant_id
    with provided(Services).db.write(tenant_id) as session:
        edit.check_removal(session, caller(), account_id)
        if not repo.remove(session, tenant_id, account_id):
            raise edit.missing()


@blueprint.route("/smtp-accounts/presets", methods=["GET"])
@blueprint.response(200, schemas.Presets)
@needs(Scope.ACCOUNTS)
def presets() -> Any:
    """List the providers whose settings are built in"""
    return {"presets": list(PRESETS.values()), "count": len(PRESETS)}


@blueprint.route("/smtp-accounts/health", methods=["GET"])
@blueprint.response(200, schemas.Healths)
@needs(Scope.ACCOUNTS)
def health() -> Any:
    """Show the health of your SMTP accounts"""
    tenant_id = caller().tenant_id
    with provided(Services).db.read(tenant_id) as session:
        accounts, count, _ = repo.accounts(session, tenant_id, limit=edit.MOST, offset=0, after=None)
        return {"smtp_accounts": _health(session, *accounts), "count": count}


@blueprint.route("/smtp-accounts/default/credentials", methods=["GET"])
@blueprint.response(200, schemas.Credentials)
@blueprint.alt_response(404, description="There is no default account.")
@blueprint.alt_response(503, description=_UNREADABLE)
@blueprint.alt_response(403, description=_NOT_OWN[Scope.REVEAL])
@needs(Scope.REVEAL)
def default_credentials() -> Any:
    """Show the settings of your default SMTP account, with its password

    Each reading is written down in the audit.
    """
    tenant_id = caller().tenant_id
    with provided(Services).db.write(tenant_id) as session:
        account = repo.default(session, tenant_id)
        if account is None:
            raise NotFound("There is no default account.")
        return _revealed(session, account)


@blueprint.route("/smtp-accounts/<uuid:account_id>/credentials", methods=["GET"])
@blueprint.response(200, schemas.Credentials)
@blueprint.alt_response(404, description=_NONE)
@blueprint.alt_response(503, description=_UNREADABLE)
@blueprint.alt_response(403, description=_NOT_OWN[Scope.REVEAL])
@needs(Scope.REVEAL)
def credentials(account_id: UUID) -> Any:
    """Show the settings of an SMTP account, with its password

    Each reading is written down in the audit.
    """
    tenant_id = caller().tenant_id
    with provided(Services).db.write(tenant_id) as session:
        return _revealed(session, _account(session, tenant_id, account_id))


@blueprint.route("/smtp-accounts/test", methods=["POST"])
@blueprint.arguments(schemas.UnsavedAccount)
@blueprint.response(200, schemas.ConnectionTestResult)
@blueprint.alt_response(503, description="Too many tests are running, or the API has one thread only.")
@needs(Scope.ACCOUNTS)
def test_unsaved(wanted: dict[str, Any]) -> Any:
    """Test settings without saving them

    The test takes 30 seconds at most.
    """
    to = wanted.pop("to", None)
    # Without a mail it does not matter who from_email is; _test checks the From of a mail.
    edit.check_addresses(caller(), {"envelope_from": wanted.get("envelope_from")})
    values = edit.filled(wanted, provided(ConnectionTests).guard)
    password = values.pop("smtp_password") or ""
    return _test(SMTPAccount(**values), password, to)


@blueprint.route("/smtp-accounts/<uuid:account_id>/test", methods=["POST"])
@blueprint.arguments(schemas.ConnectionTestOptions)
@blueprint.response(200, schemas.ConnectionTestResult)
@blueprint.alt_response(404, description=_NONE)
@blueprint.alt_response(
    503, description=f"Too many tests are running, or the API has one thread only; or {_UNREADABLE}"
)
@blueprint.alt_response(403, description=_NOT_OWN[Scope.ACCOUNTS])
@needs(Scope.ACCOUNTS)
def test_saved(wanted: dict[str, Any], account_id: UUID) -> Any:
    """Test an SMTP account

    The test takes 30 seconds at most. The test mail does not count towards the account's limits.
    """
    services, tenant_id = provided(Services), caller().tenant_id
    with services.db.read(tenant_id) as session:
        account = _account(session, tenant_id, account_id)
    edit.check_own(caller(), account)
    password = services.vault.decrypt(account.smtp_password) if account.smtp_password else ""
    return _test(account, password, wanted.get("to"))


def _test(account: SMTPAccount, password: str, to: str | None) -> Any:
    tenant_id = caller().tenant_id
    if to is not None and (caller().kind is KeyKind.TEST or not caller().may_send_to(to)):
        raise InvalidInput(
            "Some fields are not valid.", fields={"to": ["This API key may not send there: a test mail is a real one."]}
        )
    _, sender = provided(ConnectionTests).sender(account)
    if to is not None and not caller().may_send_as(sender):
        raise InvalidInput(
            "Some fields are not valid.",
            fields={"to": [f"This API key may not send as {sender}, whom the test mail would be from."]},
        )
    found = provided(ConnectionTests).run(tenant_id, account, password, to)
    log.info("account_tried", extra={"account_id": account.id, "tenant_id": tenant_id, "ok": found.ok})
    return found


def _revealed(session: Session, account: SMTPAccount) -> dict[str, Any]:
    services, who = provided(Services), caller()
    edit.check_own(who, account)
    password = services.vault.decrypt(account.smtp_password) if account.smtp_password else None
    audit.note(
        session,
        who,
        request.remote_addr,
        audit.REVEALED,
        {"account_id": str(account.id), "setting_name": account.setting_name},
    )
    noted = {"account_id": account.id, "tenant_id": who.tenant_id, "key_id": who.key_id, "address": request.remote_addr}
    after_commit(session, lambda: log.info("credentials_revealed", extra=noted))
    shown = {name: getattr(account, name) for name in schemas.Credentials().fields if name != "smtp_password"}
    return {**shown, "smtp_password": password}


def _claim(session: Session, key: str | None, wanted: dict[str, Any]) -> idempotency.KeyClaim | None:
    if key is None:
        return None
    pepper = keys.pepper(session, provided(Services).vault)
    return idempotency.claim_of(caller(), key, {"smtp_account": wanted}, pepper)


def _account(session: Session, tenant_id: UUID, account_id: UUID) -> SMTPAccount:
    found = repo.account(session, tenant_id, account_id)
    if found is None:
        raise edit.missing()
    return found


def _details(tenant_id: UUID, account_id: UUID) -> dict[str, Any]:
    with provided(Services).db.read(tenant_id) as session:
        account = _account(session, tenant_id, account_id)
        (found,) = _health(session, account)
    return {**{name: getattr(account, name) for name in schemas.AccountShape().fields}, "health": found}


def _health(session: Session, *accounts: SMTPAccount) -> list[AccountHealth]:
    services = provided(Services)
    return look(session, services.vault, accounts, counted_here=not services.settings.REDIS_URL)


def _shape(account: SMTPAccount) -> dict[str, Any]:
    return cast(dict[str, Any], schemas.AccountShape().dump(account))
