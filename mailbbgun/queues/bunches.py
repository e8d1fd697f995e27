"""Bunches: an AMQP message carries the ids of several hints.

RabbitMQ and our own code take as long for a message of sixteen hints as for one of a single hint.
So the body of a message is 1 to :data:`BUNCH` message ids, in lower case, with a line break between
two. A bunch is acked when all its hints are settled; until then it comes again whole.
"""

import re
from collections.abc import Sequence
from uuid import UUID

#: Ids in an AMQP message, at most. A consumer that knows a smaller number takes larger bunches for
#: junk; the sweep then hints their messages again.
BUNCH = 16

#: Bunches a consumer holds at least. In quiet times each holds one id, and a claim needs this many.
FEWEST_FETCHED = 8

#: RabbitMQ's own limit for quorum queues.
LARGEST_PREFETCH = 2000

_ID = b"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_BODY = re.compile(b"%b(?:\n%b){0,%d}" % (_ID, _ID, BUNCH - 1))


def bodies_of(message_ids: Sequence[UUID]) -> list[bytes]:
    """Cut ids into bunches, in their order.

    More than half a bunch is cut in two, so that a second worker process gets a share of a burst.
    """
    size = min(BUNCH, max(BUNCH // 2, (len(message_ids) + 1) // 2))
    ids = [str(one) for one in message_ids]
    return ["\n".join(ids[first : first + size]).encode() for first in range(0, len(ids), size)]


def ids_of(body: bytes) -> list[UUID]:
    """Return the ids of a bunch, or none if any part of it is junk.

    The sweep hints lost messages again.
    """
    return [UUID(one) for one in body.decode("ascii").split("\n")] if _BODY.fullmatch(body) else []


def fetched(prefetch: int) -> int:
    """Return how many bunches a consumer fetches for ``prefetch`` hints.

    Full bunches, which come when there is a backlog, hold twice as many hints; with more, one
    process could hold a small backlog while others are idle. Bunches of one id hold an eighth; they
    are settled as soon as they are claimed, and the next ones come.
    """
    return min(max(prefetch // 8, FEWEST_FETCHED), LARGEST_PREFETCH)
