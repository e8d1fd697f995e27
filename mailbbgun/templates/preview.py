"""Shows templates: a version with its texts and variables, and a mail as its reader would get it."""

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from mailbbgun.templates import engine, locales
from mailbbgun.templates.models import Template, TemplateVersion
from mailbbgun.templates.versions import sources_of

#: The variable that a message with ``"unsubscribe": true`` has by itself.
UNSUBSCRIBE = "unsubscribe_url"
#: Bytes of HTML from which Gmail cuts a mail off.
_CUT_OFF = 102_000


def shown(template: Template, version: TemplateVersion) -> dict[str, Any]:
    """Return the properties of a template, and the texts of one version."""
    columns = ("id", "name", "description", "active", "test", "created_at", "updated_at")
    others = {locale: texts for locale, texts in version.texts.items() if locale != locales.DEFAULT}
    return {
        **{name: getattr(template, name) for name in columns},
        **version.texts[locales.DEFAULT],
        "version": version.number,
        "variables": version.variables,
        "locales": others,
    }


def history(template: Template, found: Sequence[TemplateVersion]) -> list[dict[str, Any]]:
    """Return the properties of the versions of a template, without their texts."""
    return [
        {
            "number": one.number,
            "active": one.number == template.active,
            "locales": sorted(set(one.texts) - {locales.DEFAULT}),
            "created_at": one.created_at,
        }
        for one in found
    ]


def of(version: TemplateVersion, values: Mapping[str, Any], locale: str | None) -> dict[str, Any]:
    """Return a mail with these values, for a reader of a locale, and what may not be meant so.

    Raises :class:`TemplateRefused`, :class:`TooLarge`.
    """
    chosen = locales.chosen(locale, version.texts)
    sources = sources_of(version.texts[chosen], chosen, version.id)
    used = engine.names(sources)
    if UNSUBSCRIBE in used:
        values = {UNSUBSCRIBE: "https://mail.example.com/unsubscribe/…", **values}
    rendered = engine.render(sources, values)
    return {
        "subject": rendered.subject,
        "text": rendered.text,
        "html": rendered.html,
        "locale": sources.locale,
        "version": version.number,
        "warnings": list(_warnings(sources, rendered, set(values) - {UNSUBSCRIBE}, locale)),
    }


def _warnings(sources: engine.Sources, rendered: engine.Rendered, given: Set[str], locale: str | None) -> Iterator[str]:
    used = {name.partition(".")[0] for name in engine.names(sources)}
    for name in sorted(given - used)[:20]:
        yield f"The variable {name[:64]!r} is not used."
    if locale and not sources.locale:
        yield f"There is no variant for {locale}; this is the default."
    if not rendered.subject:
        yield "The subject is empty."
    if rendered.html and len(rendered.html.encode()) > _CUT_OFF:
        yield f"The HTML has {len(rendered.html.encode())} bytes; Gmail cuts off what is beyond {_CUT_OFF}."
    if rendered.html and not rendered.text:
        yield "The mail has no text part; some readers and filters want one."
