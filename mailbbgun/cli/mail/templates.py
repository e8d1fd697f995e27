"""``mailbbgun template``: templates, their versions, and mails as their readers would get them.

Rules and words are those of the HTTP API: both call the same functions.
"""

from pathlib import Path
from typing import Any

import click
import orjson
from sqlalchemy.orm import Session

from mailbbgun.cli.terminal import (
    PAGE,
    CallersPath,
    all_pages,
    as_json,
    as_usage_error,
    of_tenant,
    opened_for,
    print_json,
    print_one,
    print_table,
    printable,
    validated,
)
from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import NotFound
from mailbbgun.core.ids import new_id
from mailbbgun.services import Services
from mailbbgun.templates import preview, repo, schemas, versions
from mailbbgun.templates.models import Template, TemplateVersion
from mailbbgun.tenants import repo as tenants

COLUMNS = ("name", "active", "description", "updated_at", "id")
VERSION_COLUMNS = ("number", "active", "locales", "created_at")
SHOWN = ("id", "name", "description", "active", "version", "variables", "created_at", "updated_at")

_template = click.argument("template", metavar="TEMPLATE")
_source = CallersPath(exists=True)


@click.group()
def template() -> None:
    """Templates of mails.

    TEMPLATE is its name or its id.
    """


@template.command("list")
@of_tenant
@as_json
def index(tenant: str, as_json: bool) -> None:
    """List all templates of a tenant, newest first."""
    with opened_for(tenant) as (services, tenant_id), services.db.read(tenant_id) as session:
        found = all_pages(lambda after: repo.page(session, tenant_id, limit=PAGE, offset=0, after=after))
    shown: Any = schemas.TemplatesShape().dump({"templates": found, "count": len(found)})
    if as_json:
        print_json(shown)
    else:
        print_table(shown["templates"], COLUMNS)


@template.command()
@_template
@click.option("--version", type=int, help="The number of the version to show; by default the active one.")
@of_tenant
@as_json
def show(template: str, version: int | None, tenant: str, as_json: bool) -> None:
    """Show a template, its texts and its versions."""
    with opened_for(tenant) as (services, tenant_id), services.db.read(tenant_id) as session:
        its = versions.found(session, Caller(tenant_id), template)
        one = versions.version(session, Caller(tenant_id), its, version or its.active)
        history = repo.versions(session, its, tests_only=False)
    shown: Any = schemas.TemplateShape().dump(preview.shown(its, one))
    if as_json:
        print_json(shown)
        return
    print_one({name: shown[name] for name in SHOWN})
    for locale, texts in {"": shown, **shown["locales"]}.items():
        for part in versions.PARTS:
            if texts[part]:
                click.echo(f"\n--- {part}{f' ({locale})' if locale else ''}")
                click.echo(printable(texts[part]))
    click.echo()
    print_table(schemas.Versions().dump({"versions": preview.history(its, history)})["versions"], VERSION_COLUMNS)


@template.command()
@click.argument("name")
@click.option("--subject", help="One line.")
@click.option("--text", "text", type=_source, help="The file with the plain text.")
@click.option("--html", "html", type=_source, help="The file with the HTML.")
@click.option("--locale", help="Save these as the texts for readers of this language, such as ja or pt-BR.")
@click.option("--description", help="For you.")
@click.option("--inline-css", is_flag=True, help="Write the rules of <style> into the elements of the HTML.")
@click.option("--draft", is_flag=True, help="Save a new version, and go on sending the active one.")
@of_tenant
@as_json
def save(
    name: str, locale: str | None, draft: bool, inline_css: bool, tenant: str, as_json: bool, **given: Any
) -> None:
    """Add the template NAME, or give it a new version.

    What is not given stays as it is.
    """
    texts = {part: _read(given[part]) for part in versions.PARTS if given[part] is not None}
    wanted: dict[str, Any] = {"locales": {locale: texts}} if locale else texts
    wanted |= {"name": name, "inline_css": inline_css}
    if given["description"] is not None:
        wanted["description"] = given["description"]
    with opened_for(tenant) as (services, tenant_id):
        its, one = _saved(services, Caller(tenant_id), wanted, draft)
    shown: Any = schemas.TemplateShape().dump(preview.shown(its, one))
    if as_json:
        print_json(shown)
    else:
        print_one({name: shown[name] for name in SHOWN})


@template.command()
@_template
@click.option("--variables", metavar="JSON", default="{}", help="The values, as a JSON object; or @FILE.")
@click.option("--locale", help="The reader's language.")
@click.option("--version", type=int, help="The number of a version; by default the active one.")
@of_tenant
@as_json
def render(template: str, variables: str, locale: str | None, version: int | None, tenant: str, as_json: bool) -> None:
    """Show a mail as its reader would get it. Nothing is sent."""
    asked = validated(schemas.RenderRequest(), {"variables": _object(variables), "locale": locale, "version": version})
    with opened_for(tenant) as (services, tenant_id):
        with services.db.read(tenant_id) as session:
            its = versions.found(session, Caller(tenant_id), template)
            one = versions.version(session, Caller(tenant_id), its, asked["version"] or its.active)
        with as_usage_error():
            shown = preview.of(one, asked["variables"], asked["locale"])
    if as_json:
        print_json(shown)
        return
    for warning in shown["warnings"]:
        click.echo(f"mailbbgun: {warning}", err=True)
    for part in versions.PARTS:
        if shown[part]:
            click.echo(f"--- {part}\n{printable(shown[part])}")


@template.command()
@_template
@click.argument("version", type=int)
@of_tenant
def activate(template: str, version: int, tenant: str) -> None:
    """Let mails have the texts of VERSION."""
    with opened_for(tenant) as (services, tenant_id), services.db.write(tenant_id) as session:
        its = versions.found(session, Caller(tenant_id), template)
        versions.activate(session, Caller(tenant_id), its, version)
    click.echo(f"version {version} of {its.name} is active")


@template.command()
@_template
@of_tenant
@click.confirmation_option("--yes", prompt="Delete the template and all its versions?", help="Do not ask.")
def delete(template: str, tenant: str) -> None:
    """Delete a template and its versions. Accepted mails are sent all the same."""
    with opened_for(tenant) as (services, tenant_id), services.db.write(tenant_id) as session:
        its = versions.found(session, Caller(tenant_id), template)
        repo.remove(session, its, tests_only=False)
    click.echo(f"deleted {its.name}")


def _saved(services: Services, who: Caller, wanted: dict[str, Any], draft: bool) -> tuple[Template, TemplateVersion]:
    with services.db.read(who.tenant_id) as session:
        its = repo.named(session, who.tenant_id, wanted["name"], tests_only=False)
        before = versions.version(session, who, its, its.active) if its else None
    if its is None:
        given = validated(schemas.NewTemplate(), wanted)
    else:
        given = validated(schemas.TemplateChange(), wanted | {"activate": not draft})
    with as_usage_error():
        made = versions.checked(given, before)
    with services.db.write(who.tenant_id) as session:
        if its is None:
            return versions.create(session, who, given, made, new_id())
        tenants.lock(session, who.tenant_id)
        its = _again(session, who, its)
        return its, versions.change(session, who, its, given, made)


def _again(session: Session, who: Caller, its: Template) -> Template:
    again = repo.by_id(session, who.tenant_id, its.id, tests_only=False)
    if again is None:
        raise NotFound(f"The template {its.name!r} has been deleted meanwhile.")
    return again


def _read(given: str | Path) -> str:
    if isinstance(given, str):
        return given
    try:
        return given.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{given} is not UTF-8: byte {error.start + 1} begins no character.") from error


def _object(given: str) -> Any:
    text = _read(_source.convert(given[1:], None, None)) if given.startswith("@") else given
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise click.UsageError(f'--variables: not JSON such as {{"name": "Ann"}}: {error}.') from error
