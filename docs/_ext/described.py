"""Checks that names which the code defines and the manual describes by hand are the same."""

from collections.abc import Callable, Collection

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

log = logging.getLogger(__name__)


def compare(app: Sphinx, kind: str, defined: Callable[[], Collection[str]], page: str) -> None:
    """Add a directive and a role called ``kind``; warn of names that are only in the manual or the
    code.

    ``defined`` returns the names that the code has. ``page`` is the page that describes them.
    """
    app.add_object_type(kind, kind)

    def check(_: Sphinx, env: BuildEnvironment) -> None:
        described = {name for found, name in env.domains.standard_domain.objects if found == kind}
        for name in sorted(set(defined()) - described):
            log.warning("the %s %s is not described", kind, name, location=page)
        for name in sorted(described - set(defined())):
            log.warning("there is no %s %s", kind, name, location=page)

    app.connect("env-check-consistency", check)
