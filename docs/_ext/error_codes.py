"""``.. error:: STATUS code`` describes an error of the HTTP API.

Sphinx warns if an error that the code can answer is not described.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from described import compare
from sphinx.application import Sphinx

import mailbbgun
from mailbbgun.core.errors import ConfigurationError, MailBBGunError, SecretUnreadable
from mailbbgun.server.refusal import Refusal

#: Errors that stop a program at its start. Clients never see them.
OF_PROGRAMS = ConfigurationError

#: Errors of Flask to which the application gives a code: unknown path, wrong method, internal
#: error, body too large.
OF_FLASK = ("400 bad_request", "404 not_found", "405 method_not_allowed", "413 too_large", "500 internal_error")

_REFUSED = re.compile(r"Refusal\(\s*(\d{3}),(?![^\n]*code=)")


def answered() -> list[str]:
    """Return status and code of every error that a client can receive."""
    return sorted({*_of_the_tree(MailBBGunError), *_of_the_server(), *OF_FLASK})


def _of_the_tree(error: type[MailBBGunError]) -> Iterator[str]:
    met = not issubclass(error, OF_PROGRAMS) or issubclass(error, SecretUnreadable)
    if met and "code" in vars(error):
        yield f"{error.status} {error.code}"
    for below in error.__subclasses__():
        yield from _of_the_tree(below)


def _of_the_server() -> Iterator[str]:
    """Find the errors of the HTTP server that precede the application.

    Their code follows from the status.
    """
    found = {
        int(status)
        for path in Path(mailbbgun.__file__).parent.rglob("*.py")
        for status in _REFUSED.findall(path.read_text())
    }
    assert found, "the HTTP server raises no Refusal(status, …) any more"
    for status in found:
        yield f"{status} {Refusal(status, '').code}"


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    compare(app, "error", answered, "reference/errors")
    return {"parallel_read_safe": True}
