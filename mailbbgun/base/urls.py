"""URLs with a user name and a password: what in them is easily mistaken. A password with a ``#`` or ``@`` in it makes another host of its rest."""

_ESCAPED = {"#": "%23", "/": "%2F", "?": "%3F", "@": "%40"}


def authority(text: str) -> tuple[str, str]:
    """Split what follows ``scheme://`` into ``user:password@host:port`` and the rest, which begins with ``/`` or ``?`` or is empty."""
    end = min((at for at in (text.find("/"), text.find("?")) if at >= 0), default=len(text))
    return text[:end], text[end:]


def misread(url: str) -> str | None:
    """Say what in a URL would be taken for something else than was meant; None if nothing would. Nothing of the URL is in the sentence."""
    text = url.partition("://")[2]
    whole, rest = authority(text)
    if "#" in text:
        found = "#"
    elif whole.count("@") > 1:
        found = "@"
    elif "@" in rest and "@" not in whole:
        found = rest[0]
    else:
        return None
    return f"a {found} in the user name or password must be written {_ESCAPED[found]} (percent-encoded), or the rest is taken for another host"
