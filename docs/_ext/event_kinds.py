"""``.. event::`` and ``.. reason::`` describe the kinds of events and the reasons of failures; both lists must be complete."""

from described import compare
from sphinx.application import Sphinx

from mailbbgun.events.kinds import Kind, Reason


def setup(app: Sphinx) -> dict[str, bool]:
    """Register both."""
    compare(app, "event", lambda: [kind.value for kind in Kind], "reference/events")
    compare(app, "reason", lambda: [reason.value for reason in Reason], "reference/events")
    return {"parallel_read_safe": True}
