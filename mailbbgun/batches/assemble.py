"""Assembles what accepts batches, for the API and for the command line."""

import math

from mailbbgun.accept.accept import Acceptor
from mailbbgun.batches.batching import Batcher
from mailbbgun.batches.personal import PersonalForm
from mailbbgun.batches.store import BatchStore
from mailbbgun.batches.whole import WholeForm
from mailbbgun.counters.counters import Counters
from mailbbgun.database.db import Database
from mailbbgun.messages.publisher import Publisher
from mailbbgun.settings.settings import Settings


def batcher_of(
    settings: Settings,
    database: Database,
    publisher: Publisher,
    acceptor: Acceptor,
    counters: Counters | None = None,
    *,
    template_seconds: float = math.inf,
) -> Batcher:
    """Return what accepts batches of either form.

    ``counters`` count their messages. ``template_seconds``: CPU that the templates of one may take.
    """
    personal = PersonalForm(settings, database, publisher, acceptor, template_seconds)
    whole = WholeForm(database, publisher, acceptor, template_seconds)
    return Batcher(BatchStore(database, settings.IDEMPOTENCY_SECONDS), personal, whole, counters)
