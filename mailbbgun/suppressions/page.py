"""The page on which a recipient unsubscribes. It needs no JavaScript, and loads nothing. Pure."""

from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from html import escape
from typing import NamedTuple


class _Words(NamedTuple):
    title: str
    question: str
    button: str
    done: str
    wrong: str


WORDS: Mapping[str, _Words] = {
    "en": _Words(
        "Unsubscribe",
        "Shall {address} get no more mail from this sender?",
        "Unsubscribe",
        "Done: {address} gets no more mail from this sender.",
        "This link is not valid. Is it whole? Mail programs may break long links.",
    ),
    "de": _Words(
        "Abmelden",
        "Soll {address} von diesem Absender keine E-Mails mehr bekommen?",
        "Abmelden",
        "Erledigt: {address} bekommt von diesem Absender keine E-Mails mehr.",
        "Dieser Link ist ungültig. Ist er vollständig? Mailprogramme brechen lange Links manchmal um.",
    ),
}
"""By language."""

_STYLE = (
    "body{font:1.1rem/1.5 system-ui,sans-serif;max-width:32rem;margin:4rem auto;padding:0 1rem;"
    "color:#222;background:#fff}button{font:inherit;padding:.5rem 1.5rem;cursor:pointer}"
    "strong{overflow-wrap:anywhere}"
)
_DIGEST = b64encode(sha256(_STYLE.encode()).digest()).decode()

#: Headers of the page. With the usual Referrer-Policy a browser would not say that the button is on our own page.
HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_DIGEST}'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "X-Robots-Tag": "noindex",
}


def asking(language: str, address: str) -> str:
    """Return the page with the button, in one of :data:`WORDS`. The button posts to the page's own URL."""
    words = WORDS[language]
    form = f'<form method="post"><button type="submit">{words.button}</button></form>'
    return _page(language, f"<p>{_about(words.question, address)}</p>{form}")


def done(language: str, address: str) -> str:
    """Return the page that says that it is done."""
    return _page(language, f"<p>{_about(WORDS[language].done, address)}</p>")


def wrong(language: str) -> str:
    """Return the page of a link that is not ours."""
    return _page(language, f"<p>{WORDS[language].wrong}</p>")


def _about(sentence: str, address: str) -> str:
    return sentence.format(address=f"<strong>{escape(address)}</strong>")


def _page(language: str, body: str) -> str:
    title = WORDS[language].title
    return (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>{body}</body></html>\n"
    )
