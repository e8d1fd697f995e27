"""The budget of CPU that the templates of one batch may take.

A render is bounded by itself (``templates/engine.py``). A thousand of them in one request are bounded here: other
requests of the process wait meanwhile.
"""

import time

from mailbbgun.core.errors import TooLarge

#: Seconds of CPU that the templates of a batch may take in a request.
BATCH_SECONDS = 2.0


class TemplateBudget:
    """The CPU that this thread may take from now on."""

    def __init__(self, seconds: float, of: str, items: int, name: str) -> None:
        """``of``: the templates, in words. ``items``: how many messages the batch has; ``name``: its field."""
        self._seconds, self._of, self._items, self._name = seconds, of, items, name
        self._ends = time.thread_time() + seconds

    def check(self, index: int) -> None:
        """Raise :class:`TooLarge` if the budget is used up before the item ``index``."""
        if time.thread_time() < self._ends:
            return
        why = (
            f"Rendering {self._of} takes more than {self._seconds:g} s of CPU for one batch, which is the most: "
            f"{self._name}.{index} of {self._items} was next. Nothing is stored. Send smaller batches, or make the "
            "template do less, such as fewer rounds of `for`."
        )
        raise TooLarge(why)
