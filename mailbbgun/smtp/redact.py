"""Takes a secret out of text that somebody else wrote: a server may say back what it was told, to
be shown, logged and kept.

What a server does to a password before it says it cannot be foreseen; found are the forms in which
it was sent or that are usual: as it is, in base64 (also inside a longer text, such as the answer of
AUTH PLAIN), in hexadecimal and percent-encoded, in whatever case, and with spaces in between, as
they come from a reply of several lines.
"""

import base64
import re
from urllib.parse import quote

from mailbbgun.smtp.reply import safe

MARK = "[redacted]"


class Redactor:
    """Redacts one secret, and the texts in which it was `sent`. An empty one is in no text."""

    def __init__(self, secret: str, *sent: str) -> None:
        forms = {_pattern(form) for form in [*_forms(secret), *sent]} - {""} if secret else set()
        self._found = re.compile("|".join(sorted(forms, key=len, reverse=True)), re.IGNORECASE) if forms else None

    def __call__(self, text: str) -> str:
        """`text` with a mark in place of each form of the secret."""
        return self._found.sub(MARK, text) if self._found else text


def _forms(secret: str) -> set[str]:
    octets = secret.encode("utf-8", "surrogatepass")
    quoted = repr(f'{secret}"')[
        1:-2
    ]  # as Python writes it between single quotes, which is how we name what is no reply
    return {
        secret,
        safe(secret),
        quoted,
        quoted.replace("\\'", "'"),
        quote(octets, safe=""),
        octets.hex(),
        *_encoded(octets),
    }


def _encoded(octets: bytes) -> set[str]:
    """What base64 makes of `octets` at each of the three places they may have in a longer text.

    The characters at either end, which depend on the neighbours, are left out; RFC 4648 §5 has two
    other signs.
    """
    alone = base64.b64encode(octets).decode()
    forms = {alone, alone.rstrip("=")}
    if len(octets) > 2:  # of less than that nothing is left that is the secret's own
        for before in range(3):
            text = base64.b64encode(bytes(before) + octets).decode()
            forms.add(text[-(-before * 8 // 6) : (before + len(octets)) * 8 // 6])
    return forms | {form.translate(str.maketrans("+/", "-_")) for form in forms}


def _pattern(form: str) -> str:
    return r"\s*".join(re.escape(character) for character in form if not character.isspace())
