"""Removes a secret from text that a server wrote and that will be shown, logged and kept.

A server may repeat a password, and nobody can foresee in which form. Found are the forms in which
the client sent it and the usual ones: plain, in base64 (also inside a longer text, such as the
answer of AUTH PLAIN), in hexadecimal and percent-encoded. Upper and lower case do not matter, nor
do spaces in between, as they come from replies of several lines.
"""

import base64
import re
from urllib.parse import quote

from mailbbgun.smtp.reply import safe

MARK = "[redacted]"


class Redactor:
    """Replaces one secret, and the texts in which it was `sent`. An empty secret is never found."""

    def __init__(self, secret: str, *sent: str) -> None:
        forms = {_pattern(form) for form in [*_forms(secret), *sent]} - {""} if secret else set()
        self._found = re.compile("|".join(sorted(forms, key=len, reverse=True)), re.IGNORECASE) if forms else None

    def __call__(self, text: str) -> str:
        """Return `text` with a mark in place of each form of the secret."""
        return self._found.sub(MARK, text) if self._found else text


def _forms(secret: str) -> set[str]:
    octets = secret.encode("utf-8", "surrogatepass")
    # As Python writes it between single quotes: errors quote a malformed reply that way.
    quoted = repr(f'{secret}"')[1:-2]
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
    """Return what base64 makes of `octets` at each of the three positions in a longer text.

    The characters at both ends depend on the neighbouring octets and are left out. RFC 4648 §5 has
    two other characters, so each form is also given in that alphabet.
    """
    alone = base64.b64encode(octets).decode()
    forms = {alone, alone.rstrip("=")}
    if len(octets) > 2:  # of fewer octets no character is left that depends on the secret alone
        for before in range(3):
            text = base64.b64encode(bytes(before) + octets).decode()
            forms.add(text[-(-before * 8 // 6) : (before + len(octets)) * 8 // 6])
    return forms | {form.translate(str.maketrans("+/", "-_")) for form in forms}


def _pattern(form: str) -> str:
    return r"\s*".join(re.escape(character) for character in form if not character.isspace())
