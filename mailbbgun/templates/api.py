"""The HTTP routes of templates, ``/templates``. A template is named by its id or its name."""

from typing import Any, cast
from uuid import UUID

from mailbbgun.core.caller import Scope
from mailbbgun.database import idempotency
from mailbbgun.http.blueprint import Blueprint
from mailbbgun.http.gate import caller, needs, reading
from mailbbgun.http.provided import provided
from mailbbgun.http.responses import created
from mailbbgun.http.schemas import LOCATION, REPLAYED, Nothing, Repeatable
from mailbbgun.http.urls import address_of, next_page
from mailbbgun.services import Services
from mailbbgun.templates import preview, repo, schemas, versions
from mailbbgun.tenants import repo as tenants

blueprint = Blueprint("templates", __name__, description="Texts of mails with places for variables, in versions.")

_NONE = "There is no such template."
_NO_VERSION = "There is no such template, or it has no such version."
_TAKEN = "There is a template of that name, or there are too many."


@blueprint.route("/templates")
@blueprint.arguments(schemas.TemplateFilters, location="query")
@blueprint.response(200, schemas.TemplatesShape)
@needs(Scope.TEMPLATES, tests=True)
def index(page: dict[str, Any]) -> Any:
    """List templates, newest first"""
    who = caller()
    with reading(provided(Services).db) as session:
        found, count, last = repo.page(session, who.tenant_id, tests_only=who.tests_only, **page)
    return {"templates": found, "count": count}, 200, next_page(last)


@blueprint.route("/templates", methods=["POST"])
@blueprint.arguments(schemas.NewTemplate)
@blueprint.arguments(Repeatable, location="headers")
@blueprint.response(201, schemas.TemplateShape, headers=LOCATION | REPLAYED)
@blueprint.alt_response(409, description=_TAKEN)
@blueprint.alt_response(422, description="The Idempotency-Key was used for another body.")
@needs(Scope.TEMPLATES, tests=True)
def create(wanted: dict[str, Any], key: dict[str, str | None]) -> Any:
    """Add a template

    Its language is Jinja's. A fault in it is told with its line.
    """
    services, who = provided(Services), caller()
    made = versions.checked(wanted)

    def add(template_id: UUID) -> dict[str, Any]:
        added = preview.shown(*versions.create(session, who, wanted, made, template_id))
        return cast(dict[str, Any], schemas.TemplateShape().dump(added))

    claim = idempotency.claim_of(who, key["key"], {"template": wanted}) if key["key"] is not None else None
    with services.db.write(who.tenant_id, tests_only=who.tests_only) as session:
        answer, replayed = idempotency.once(session, claim, services.settings.IDEMPOTENCY_SECONDS, add)
    return created(answer, address_of("templates.show", called=answer["id"]), replayed)


@blueprint.route("/templates/<called>")
@blueprint.response(200, schemas.TemplateShape)
@blueprint.alt_response(404, description=_NONE)
@needs(Scope.TEMPLATES, tests=True)
def show(called: str) -> Any:
    """Show a template, with the texts of its active version"""
    with reading(provided(Services).db) as session:
        template = versions.found(session, caller(), called)
        return preview.shown(template, versions.version(session, caller(), template, template.active))


@blueprint.route("/templates/<called>", methods=["PATCH"])
@blueprint.arguments(schemas.TemplateChange)
@blueprint.response(200, schemas.TemplateShape)
@blueprint.alt_response(404, description=_NONE)
@blueprint.alt_response(409, description=_TAKEN)
@needs(Scope.TEMPLATES, tests=True)
def change(wanted: dict[str, Any], called: str) -> Any:
    """Change a template

    Other texts are a new version. Every process sends it within two seconds. Mails that were accepted
    before keep the texts they were accepted with. The last 100 versions are kept.
    """
    with reading(provided(Services).db) as session:
        template = versions.found(session, caller(), called)
        before = versions.version(session, caller(), template, template.active)
    made = versions.checked(wanted, before)
    with _writing() as session:
        tenants.lock(session, caller().tenant_id)
        template = versions.found(session, caller(), called)
        return preview.shown(template, versions.change(session, caller(), template, wanted, made))


@blueprint.route("/templates/<called>", methods=["DELETE"])
@blueprint.response(204)
@blueprint.alt_response(404, description=_NONE)
@needs(Scope.TEMPLATES, tests=True)
def remove(called: str) -> Any:
    """Delete a template

    Accepted mails are sent all the same.
    """
    with _writing() as session:
        repo.remove(session, versions.found(session, caller(), called), tests_only=caller().tests_only)


@blueprint.route("/templates/<called>/versions")
@blueprint.response(200, schemas.Versions)
@blueprint.alt_response(404, description=_NONE)
@needs(Scope.TEMPLATES, tests=True)
def history(called: str) -> Any:
    """List the versions of a template, newest first"""
    with reading(provided(Services).db) as session:
        template = versions.found(session, caller(), called)
        found = repo.versions(session, template, tests_only=caller().tests_only)
    return {"versions": preview.history(template, found), "count": len(found)}


@blueprint.route("/templates/<called>/versions/<int:number>")
@blueprint.response(200, schemas.TemplateShape)
@blueprint.alt_response(404, description=_NO_VERSION)
@needs(Scope.TEMPLATES, tests=True)
def show_version(called: str, number: int) -> Any:
    """Show a template, with the texts of one version"""
    with reading(provided(Services).db) as session:
        template = versions.found(session, caller(), called)
        return preview.shown(template, versions.version(session, caller(), template, number))


@blueprint.route("/templates/<called>/versions/<int:number>/diff")
@blueprint.arguments(schemas.Against, location="query")
@blueprint.response(200, schemas.Differences)
@blueprint.alt_response(404, description=_NO_VERSION)
@needs(Scope.TEMPLATES, tests=True)
def diff(asked: dict[str, int | None], called: str, number: int) -> Any:
    """Show what changed in a version"""
    with reading(provided(Services).db) as session:
        template = versions.found(session, caller(), called)
        new = versions.version(session, caller(), template, number)
        old = versions.version(session, caller(), template, asked["against"] or max(number - 1, 1))
    return {"old": old.number, "new": new.number, "differences": versions.difference(old.texts, new.texts)}


@blueprint.route("/templates/<called>/versions/<int:number>/activate", methods=["POST"])
@blueprint.arguments(Nothing, required=False)
@blueprint.response(200, schemas.TemplateShape)
@blueprint.alt_response(404, description=_NO_VERSION)
@needs(Scope.TEMPLATES, tests=True)
def activate(_body: dict[str, Any], called: str, number: int) -> Any:
    """Let mails have the texts of an older or newer version"""
    with _writing() as session:
        template = versions.found(session, caller(), called)
        versions.activate(session, caller(), template, number)
        return preview.shown(template, versions.version(session, caller(), template, number))


@blueprint.route("/templates/<called>/render", methods=["POST"])
@blueprint.arguments(schemas.RenderRequest)
@blueprint.response(200, schemas.RenderedShape)
@blueprint.alt_response(404, description=_NO_VERSION)
@needs(Scope.TEMPLATES, tests=True)
def render(wanted: dict[str, Any], called: str) -> Any:
    """See a mail of a template

    Nothing is stored or sent.
    """
    with reading(provided(Services).db) as session:
        template = versions.found(session, caller(), called)
        version = versions.version(session, caller(), template, wanted["version"] or template.active)
    return preview.of(version, wanted["variables"], wanted["locale"])


def _writing() -> Any:
    return provided(Services).db.write(caller().tenant_id, tests_only=caller().tests_only)
