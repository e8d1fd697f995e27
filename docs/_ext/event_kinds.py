"""``.. event::`` describes a kind of event, ``.. reason::`` a reason of a failure.

Sphinx warns if either list is incomplete.
"""

from described import compare
from sphinx.application import Sphinx

from mailbbgun.events.kinds import Kind, Reason


def setup(app: Sphinx) -> dict[str, bool]:
    """Register both directives."""
    compare(app, "event", lambda: [kind.value for kind in Kind], "reference/events")
    compare(app, "reason", lambda: [reason.value for reason in Reason], "reference/events")
    return {"parallel_read_safe": True}
