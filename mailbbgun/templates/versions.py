"""Makes, changes, activates and deletes templates. Every change of the texts is a new version.

Functions take a session of a tenant, or of its test data, and never commit.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import unified_diff
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import Conflict, InvalidInput, NotFound, TooLarge
from mailbbgun.database.db import db_now
from mailbbgun.templates import around, engine, repo
from mailbbgun.templates.engine import Sources, TemplateRefused
from mailbbgun.templates.locales import DEFAULT
from mailbbgun.templates.models import Template, TemplateVersion
from mailbbgun.tenants import repo as tenants

#: Templates of a tenant, versions of a template that are kept, and locales of a template, at most.
MOST_TEMPLATES, KEPT_VERSIONS, MOST_LOCALES = 1_000, 100, 50
#: The largest number that a version can have.
MOST_VERSION = 2**31 - 1
#: Characters of all texts of a version, and tags in them, at most. A tag takes up to 50 µs to check.
VERSION_SIZE, VERSION_TAGS = 1_000_000, 20_000
#: Lines of a text that are compared one by one. Longer texts are shown as replaced.
MOST_LINES = 2_000

PARTS = ("subject", "text", "html")

Texts = dict[str, dict[str, Any]]
"""Locale → ``subject``, ``text``, ``html``, and ``text_made``: whether the text was made of the HTML."""


@dataclass(frozen=True, slots=True)
class Checked:
    """Texts that can be a version, and the names of the variables that they use.

    ``based_on``: the number of the version whose texts they change; 0 for a new template.
    """

    texts: Texts
    variables: list[str]
    based_on: int = 0


def checked(given: Mapping[str, Any], before: TemplateVersion | None = None) -> Checked:
    """Return the texts that a request describes, checked. This may take seconds, so it takes no session.

    ``given`` has ``subject``, ``text`` and ``html`` of the default locale, ``locales`` with those of
    others, and ``inline_css``. What it lacks is as in ``before``, another version. A locale
    that is null is left out. Raises :class:`TemplateRefused`, :class:`InvalidInput`.
    """
    made: Texts = {locale: dict(texts) for locale, texts in (before.texts if before else {}).items()}
    changes = {DEFAULT: {name: given[name] for name in PARTS if name in given}, **given.get("locales", {})}
    _check_size(changes)
    changed = {}
    for locale, change in changes.items():
        if change is None:
            made.pop(locale, None)
        elif change or locale not in made:
            made[locale] = changed[locale] = _merged(made.get(locale, {}), change)
    usable = {locale: texts for locale, texts in changed.items() if _has_usable_html(texts)}
    if given.get("inline_css"):
        _inline([texts for locale, texts in usable.items() if "html" in (changes[locale] or {})])
    for texts in usable.values():
        if texts["text_made"]:
            texts["text"] = around.text_from(texts["html"])
    if len(made) > MOST_LOCALES + 1:
        raise InvalidInput("Some fields are not valid.", fields={"locales": [f"{MOST_LOCALES} are the most."]})
    _check_size(made)
    faults = {name: why for locale, texts in made.items() for name, why in _faults(locale, texts)}
    if faults:
        raise TemplateRefused("The template cannot be used.", fields=faults)
    names = {name for locale, texts in made.items() for name in engine.names(sources_of(texts, locale))}
    return Checked(made, sorted(names), before.number if before else 0)


def _check_size(texts: Mapping[str, Mapping[str, Any] | None]) -> None:
    """Raise :class:`TooLarge` if texts are too long, or have too many tags, for one version."""
    its = [change.get(part) or "" for change in texts.values() if change for part in PARTS]
    if (size := sum(map(len, its))) > VERSION_SIZE:
        raise TooLarge(f"The texts have {size} characters, and {VERSION_SIZE} are the most.")
    if (tags := sum(text.count("{{") + text.count("{%") for text in its)) > VERSION_TAGS:
        raise TooLarge(f"The texts have {tags} tags, and {VERSION_TAGS} are the most.")


def _merged(before: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    texts = {"subject": "", "text": None, "html": None, "text_made": False, **before}
    if texts["text_made"]:
        texts["text"] = None
    texts |= {name: change[name] for name in PARTS if name in change}
    texts["text_made"] = texts["text"] is None and texts["html"] is not None
    return texts


def _has_usable_html(texts: Mapping[str, Any]) -> bool:
    return bool(texts["html"]) and not _fault(Sources("", None, texts["html"]))


def _inline(changed: Sequence[dict[str, Any]]) -> None:
    """Inline the CSS of these locales' HTML, all at once: so the limits of that hold for all of them together."""
    for texts, html in zip(changed, around.inlined([texts["html"] for texts in changed]), strict=True):
        texts["html"] = html


def _faults(locale: str, texts: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[str]]]:
    prefix = f"locales.{locale}." if locale != DEFAULT else ""
    if not texts["subject"]:
        yield f"{prefix}subject", ["Required: one line, which may have variables."]
    if not texts["text"] and not texts["html"]:
        yield f"{prefix}text", ["Required unless there is html."]
    for name, why in _fault(sources_of(texts, locale)).items():
        yield f"{prefix}{name}", why


def _fault(sources: Sources) -> Mapping[str, Sequence[str]]:
    try:
        engine.check(sources)
    except TemplateRefused as refused:
        return refused.fields or {}
    return {}


def sources_of(texts: Mapping[str, Any], locale: str, version_id: UUID | None = None) -> Sources:
    """Return the sources of one locale of a version."""
    return Sources(texts["subject"], texts["text"] or None, texts["html"] or None, locale or None, version_id)


def create(
    session: Session, who: Caller, given: Mapping[str, Any], made: Checked, template_id: UUID
) -> tuple[Template, TemplateVersion]:
    """Add a template with its first version, which is active.

    Raises :class:`Conflict` if there is one of its name, or there are too many.
    """
    tenants.lock(session, who.tenant_id)
    if repo.count(session, who.tenant_id, tests_only=who.tests_only) >= MOST_TEMPLATES:
        raise Conflict(f"There are {MOST_TEMPLATES} templates already, which is the most.")
    now = session.scalars(select(db_now())).one()
    values = {"id": template_id, "tenant_id": who.tenant_id, "test": who.tests_only, "active": 1}
    with _name_taken(given["name"]):
        named = {"name": given["name"], "description": given.get("description")}
        template = repo.add(session, values | named | {"created_at": now, "updated_at": now})
    return template, repo.add_version(session, template, 1, _columns(made), now)


def change(
    session: Session, who: Caller, template: Template, given: Mapping[str, Any], made: Checked
) -> TemplateVersion:
    """Change a template: its name and description, and by a new version its texts.

    The tenant's row must be locked. The new version is active unless ``given`` says ``"activate": false``. Old
    versions beyond :data:`KEPT_VERSIONS` are deleted. Returns the newest version. Raises what :func:`create` does, and
    :class:`Conflict` if another version has become active since ``made`` was.
    """
    tests_only = who.tests_only
    if template.active != made.based_on:
        raise Conflict("The template has been changed meanwhile. Look at it, and try again.")
    now = session.scalars(select(db_now())).one()
    values = {name: given[name] for name in ("name", "description") if name in given} | {"updated_at": now}
    newest = version(session, who, template, repo.last_number(session, template, tests_only=tests_only))
    if made.texts != version(session, who, template, template.active).texts:
        newest = repo.add_version(session, template, newest.number + 1, _columns(made), now)
        if given.get("activate", True):
            values["active"] = newest.number
    with _name_taken(values.get("name", template.name)):
        repo.change(session, template, values, tests_only=tests_only)
    repo.forget_versions(session, template, newest.number - KEPT_VERSIONS + 1, tests_only=tests_only)
    return newest


def _columns(made: Checked) -> dict[str, Any]:
    return {"texts": made.texts, "variables": made.variables}


def activate(session: Session, who: Caller, template: Template, number: int) -> None:
    """Let mails have the texts of another version. Raises :class:`NotFound`."""
    version(session, who, template, number)
    now = session.scalars(select(db_now())).one()
    repo.change(session, template, {"active": number, "updated_at": now}, tests_only=who.tests_only)


def found(session: Session, who: Caller, called: str) -> Template:
    """Return the template of that id or name. Raises :class:`NotFound`."""
    identifier = _uuid(called)
    its = (
        repo.by_id(session, who.tenant_id, identifier, tests_only=who.tests_only)
        if identifier
        else repo.named(session, who.tenant_id, called, tests_only=who.tests_only)
    )
    if its is None:
        raise NotFound("There is no such template.")
    return its


def version(session: Session, who: Caller, template: Template, number: int) -> TemplateVersion:
    """Return a version of a template. Raises :class:`NotFound`."""
    # No database takes a number of any size.
    known = 1 <= number <= MOST_VERSION
    its = repo.version(session, template, number, tests_only=who.tests_only) if known else None
    if its is None:
        raise NotFound(f"The template has no version {number}.")
    return its


def difference(old: Texts, new: Texts) -> list[dict[str, str]]:
    """Return where two versions differ: ``locale``, ``part`` and a unified ``diff``."""
    return [
        {"locale": locale, "part": part, "diff": "\n".join(_compared(before, after))}
        for locale in sorted({*old, *new})
        for part in PARTS
        if (before := old.get(locale, {}).get(part) or "") != (after := new.get(locale, {}).get(part) or "")
    ]


def _compared(old: str, new: str) -> Iterator[str]:
    before, after = old.splitlines(), new.splitlines()
    if len(before) > MOST_LINES or len(after) > MOST_LINES:
        before, after = [f"({len(before)} lines)"], [f"({len(after)} lines)", "more lines than are compared"]
    return unified_diff(before, after, "old", "new", lineterm="")


@contextmanager
def _name_taken(name: str) -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        raise Conflict(f"There is a template named {name!r}. Change that one, or take another name.") from error


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
