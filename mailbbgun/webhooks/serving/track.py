"""A place in a log, with the events after it that are being sent. Pure: it reads and writes nothing."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from mailbbgun.events.reading import Position
from mailbbgun.webhooks.sending import SharedEvent


class EventState(Enum):
    """Where an event is."""

    WAITING = auto()
    SENDING = auto()
    FAILED = auto()  # until it is known whether the endpoint failed or the event by itself
    DONE = auto()  # acknowledged, or kept as a retry


@dataclass(slots=True, eq=False)
class Item:
    """An event on its way to an endpoint."""

    event: SharedEvent
    before: Position  # the place of the event that was read before it
    cause: str  # event, retry, replay
    tries: int = 0  # of a retry: how many there were already
    state: EventState = EventState.WAITING


class Track:
    """The place of a reader, and the events that were read beyond it, in the order of the log."""

    def __init__(self, place: Position, cause: str, until: Position | None = None) -> None:
        self.saved = place  # what the database has
        self.read_to = place
        self.cause, self.until = cause, until
        self.items: deque[Item] = deque()
        self.exhausted = False  # the last read found the end of the log

    @property
    def place(self) -> Position:
        """The place up to which all is done."""
        while self.items and self.items[0].state is EventState.DONE:
            self.items.popleft()
        return self.items[0].before if self.items else self.read_to

    def add(
        self, events: Sequence[SharedEvent], wanted: Sequence[bool], limit: int, searched: Position | None = None
    ) -> list[Item]:
        """Note the events that a read of at most ``limit`` has found; return those that are to be sent.

        ``searched``: the read went only up to this place; None: to the end.
        """
        added = []
        for event, is_wanted in zip(events, wanted, strict=True):
            if is_wanted:
                added.append(Item(event, self.read_to, self.cause))
            self.read_to = event.position
        self.items += added
        self.exhausted = len(events) < limit and searched is None
        if searched is not None and len(events) < limit:
            self.read_to = searched
        return added

    def trim(self) -> None:
        """Forget the events at the end that nothing has become of yet. They will be read again."""
        while self.items and self.items[-1].state is EventState.WAITING:
            self.read_to = self.items.pop().before
            self.exhausted = False

    def overtaken(self) -> Iterator[Item]:
        """Yield the events that are not done although later ones are."""
        last = max((at for at, one in enumerate(self.items) if one.state is EventState.DONE), default=-1)
        for at, one in enumerate(self.items):
            if at < last and one.state is not EventState.DONE:
                yield one
