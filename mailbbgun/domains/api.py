"""The HTTP routes of sending domains, ``/domains``. They need the scope ``domains``.

A domain is named in a path by its name, also an international one, or by its id.
"""

import logging
import time
from typing import Any, cast
from uuid import UUID

from sqlalchemy.orm import Session

from mailbbgun.core.caller import Scope
from mailbbgun.core.errors import Conflict, Forbidden, InvalidInput
from mailbbgun.database import idempotency
from mailbbgun.domains import edit, repo, schemas
from mailbbgun.domains.dns.look import DomainChecks
from mailbbgun.domains.local import SETTLING_SECONDS, LocalDomains
from mailbbgun.domains.models import SendingDomain
from mailbbgun.http.blueprint import Blueprint
from mailbbgun.http.gate import caller, needs
from mailbbgun.http.provided import provided
from mailbbgun.http.responses import created
from mailbbgun.http.schemas import LOCATION, REPLAYED, Page, Repeatable
from mailbbgun.http.urls import NEXT_PAGE, address_of, next_page
from mailbbgun.services import Services

blueprint = Blueprint("domains", __name__, description="The domains that you send from, and their DKIM keys.")

_NONE = "No such domain."
_NOT_OWN = "The API key lacks the scope domains, or has senders and the domain is not one of them."
_NOT_YOURS = f"{_NOT_OWN} Or it lacks the scope admin, and this server's own name is to be local."

log = logging.getLogger("mailbbgun.domains")


@blueprint.route("/domains", methods=["GET"])
@blueprint.arguments(Page, location="query")
@blueprint.response(200, schemas.Domains, headers=NEXT_PAGE)
@needs(Scope.DOMAINS)
def index(page: dict[str, Any]) -> Any:
    """List your sending domains, newest first"""
    tenant_id = caller().tenant_id
    with provided(Services).db.read(tenant_id) as session:
        domains, count, last = repo.page(session, tenant_id, **page)
        keys = repo.keys(session, tenant_id, [one.id for one in domains])
    shown = [edit.shape(one, keys.get(one.id, [])) for one in domains]
    return {"domains": shown, "count": count}, 200, next_page(last)


@blueprint.route("/domains", methods=["POST"])
@blueprint.arguments(schemas.NewDomain)
@blueprint.arguments(Repeatable, location="headers")
@blueprint.response(201, schemas.DomainDetails, headers=LOCATION | REPLAYED)
@blueprint.alt_response(409, description="You have that domain already, or too many; or it is local to another tenant.")
@blueprint.alt_response(422, description="The Idempotency-Key was used for another body.")
@blueprint.alt_response(403, description=_NOT_YOURS)
@needs(Scope.DOMAINS)
def create(wanted: dict[str, Any], key: dict[str, str | None]) -> Any:
    """Add a sending domain

    The answer has the DNS records to publish. Mail from the domain is signed once the records of its
    keys are seen: by a worker, which looks every two minutes at first, or when you ask for a check.
    """
    services, tenant_id = provided(Services), caller().tenant_id
    name = edit.domain_name(wanted["name"])
    edit.check_own(caller(), name)
    pairs, local, policy = edit.pairs(), _locality(name, local=wanted["local"]), wanted["policy"]

    def add(domain_id: UUID) -> dict[str, Any]:
        domain = edit.create(session, services.vault, tenant_id, domain_id, name, pairs, local=local, policy=policy)
        return cast(dict[str, Any], schemas.DomainDetails().dump(edit.details(session, services.settings, domain)))

    with services.db.write(tenant_id) as session:
        claim = idempotency.claim_of(caller(), key["key"], {"domain": wanted}) if key["key"] else None
        answer, replayed = idempotency.once(session, claim, services.settings.IDEMPOTENCY_SECONDS, add)
    if local.here:
        time.sleep(SETTLING_SECONDS)
    return created(answer, address_of("domains.show", domain=answer["name"]), replayed)


@blueprint.route("/domains/<string:domain>", methods=["GET"])
@blueprint.response(200, schemas.DomainDetails)
@blueprint.alt_response(404, description=_NONE)
@needs(Scope.DOMAINS)
def show(domain: str) -> Any:
    """Show a sending domain, its records, and what the DNS said when it was last asked"""
    with provided(Services).db.read(caller().tenant_id) as session:
        return edit.details(session, provided(Services).settings, _found(session, domain))


@blueprint.route("/domains/<string:domain>", methods=["PATCH"])
@blueprint.arguments(schemas.DomainChange)
@blueprint.response(200, schemas.DomainDetails)
@blueprint.alt_response(404, description=_NONE)
@blueprint.alt_response(409, description="It is local to another tenant.")
@blueprint.alt_response(403, description=_NOT_YOURS)
@needs(Scope.DOMAINS)
def change(wanted: dict[str, Any], domain: str) -> Any:
    """Deliver the mail of a domain here from now on, or no more; or change its policy"""
    services, local = provided(Services), None
    if "local" in wanted:
        with services.db.read(caller().tenant_id) as session:
            name = _own(session, domain).name
        local = _locality(name, local=wanted["local"])
    with services.db.write(caller().tenant_id) as session:
        found = _own(session, domain)
        if local is not None:
            edit.make_local(session, found, local)
        if "policy" in wanted:
            repo.set_policy(session, found.tenant_id, found.id, wanted["policy"])
        answer = edit.details(session, services.settings, _found(session, domain))
    if wanted:
        time.sleep(SETTLING_SECONDS)
    return answer


@blueprint.route("/domains/<string:domain>/exists", methods=["GET"])
@blueprint.response(200, schemas.Existence)
@blueprint.alt_response(404, description="That is no name of a domain.")
@needs(Scope.DOMAINS)
def exists(domain: str) -> Any:
    """Say whether a domain is one of yours, or local to any tenant"""
    if "." not in domain:
        raise edit.missing()
    name = edit.domain_name(domain)
    with provided(Services).db.read(caller().tenant_id) as session:
        own = repo.domain(session, caller().tenant_id, name)
    local = (own is not None and own.local) or provided(LocalDomains).of(name) is not None
    return {"exists": own is not None or local, "local": local}


@blueprint.route("/domains/<string:domain>", methods=["DELETE"])
@blueprint.response(204)
@blueprint.alt_response(404, description=_NONE)
@blueprint.alt_response(403, description=_NOT_OWN)
@needs(Scope.DOMAINS)
def remove(domain: str) -> Any:
    """Delete a sending domain and its keys

    About a second later its mail is not signed any more, not even pending mail.
    """
    tenant_id = caller().tenant_id
    with provided(Services).db.write(tenant_id) as session:
        found = _own(session, domain)
        local = found.local
        repo.remove(session, tenant_id, found.id)
    if local:
        time.sleep(SETTLING_SECONDS)


@blueprint.route("/domains/<string:domain>/check", methods=["POST"])
@blueprint.arguments(schemas.CheckOptions)
@blueprint.response(200, schemas.DomainDetails)
@blueprint.alt_response(404, description=_NONE)
@blueprint.alt_response(503, description="Too many domains are being checked, or there are no name servers to ask.")
@blueprint.alt_response(403, description=_NOT_OWN)
@needs(Scope.DOMAINS)
def check(wanted: dict[str, Any], domain: str) -> Any:
    """Ask the DNS about a sending domain now

    Keys whose records are there begin to sign. It takes 8 seconds at most.
    """
    services, tenant_id = provided(Services), caller().tenant_id
    with services.db.read(tenant_id) as session:
        found = _own(session, domain)
        plan = edit.plan(session, services.settings, found, edit.keys_of(session, found))
    report = provided(DomainChecks).run(tenant_id, plan)
    with services.db.write(tenant_id) as session:
        found = _own(session, domain)
        for key in edit.note(session, found, report, force=wanted["force"]):
            told = {"domain": found.name, "selector": key.selector, "tenant_id": tenant_id}
            log.info("dkim_key_activated", extra=told)
        return edit.details(session, services.settings, _found(session, domain))


@blueprint.route("/domains/<string:domain>/rotate", methods=["POST"])
@blueprint.response(201, schemas.DomainDetails)
@blueprint.alt_response(404, description=_NONE)
@blueprint.alt_response(409, description="Keys of the domain wait for their records already.")
@blueprint.alt_response(403, description=_NOT_OWN)
@needs(Scope.DOMAINS)
def rotate(domain: str) -> Any:
    """Make new keys for a sending domain

    The keys of now sign on until the records of the new ones are seen.
    """
    services, tenant_id = provided(Services), caller().tenant_id
    with services.db.read(tenant_id) as session:  # before the keys are made, which takes long
        edit.check_none_waits(session, _own(session, domain))
    pairs = edit.pairs()
    with services.db.write(tenant_id) as session:
        found = _own(session, domain)
        edit.rotate(session, services.vault, found, pairs)
        return edit.details(session, services.settings, found)


@blueprint.route("/domains/<string:domain>/keys/<string:selector>", methods=["DELETE"])
@blueprint.response(204)
@blueprint.alt_response(404, description="No such domain, or it has no such key.")
@blueprint.alt_response(403, description=_NOT_OWN)
@needs(Scope.DOMAINS)
def remove_key(domain: str, selector: str) -> Any:
    """Delete a key now, such as one that others got to know

    About a second later nothing is signed with it any more.
    """
    with provided(Services).db.write(caller().tenant_id) as session:
        edit.remove_key(session, _own(session, domain), selector)


def _locality(name: str, *, local: bool) -> edit.Locality:
    """Return whose mail to a domain is delivered here: everybody's if an administrator says so.

    Raises :class:`Forbidden`: whoever reads mail to the postmaster of this server's names could get
    certificates for them. Raises :class:`Conflict` if another tenant's key signs mail of the domain: the
    DNS has proved that it is theirs.
    """
    services, is_admin = provided(Services), Scope.ADMIN in caller().scopes
    if local and not is_admin:
        settings = services.settings
        if name in (settings.HOSTNAME.lower(), settings.RETURN_PATH_DOMAIN.lower()):
            raise Forbidden(f"{name} is a name of this server itself: only a key with the scope admin makes it local.")
        with services.db.read() as session:
            if repo.signed_by_another(session, caller().tenant_id, name):
                raise Conflict(f"Another tenant signs mail of {name}: only a key with the scope admin makes it local.")
    return edit.Locality(local, local and is_admin)


def _found(session: Session, called: str) -> SendingDomain:
    """Return the caller's domain with this name or id. Raises :class:`NotFound`."""
    try:
        wanted: str | UUID = UUID(called) if len(called) == 36 and "." not in called else edit.domain_name(called)
    except (ValueError, InvalidInput):
        raise edit.missing() from None
    found = repo.domain(session, caller().tenant_id, wanted)
    if found is None:
        raise edit.missing()
    return found


def _own(session: Session, called: str) -> SendingDomain:
    """Return the caller's domain, to be changed. Raises :class:`NotFound` and :class:`Forbidden`."""
    found = _found(session, called)
    edit.check_own(caller(), found.name)
    return found
