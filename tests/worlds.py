"""What the quick run leaves to ``--all``: the second world of a story that one world tells.

Stories run in two worlds: embedded, which is SQLite and the queue of our own, and real, which is
PostgreSQL and RabbitMQ. The quick run takes each file through one of them, chosen by the file's
name, so that about half of the files meet each; ``--all`` takes all through both. Marked ``both``
are the stories of the front doors and of what each database does in its own way: these run in both
worlds every time.
"""

import re
from binascii import crc32
from collections import defaultdict
from collections.abc import Iterable

#: Each is a world's name in the id of a test, and whether it is the embedded world.
WORLDS = {"embedded": True, "sqlite": True, "real": False, "postgresql": False}

_WORLD = re.compile(rf"(?<=[\[-])({'|'.join(WORLDS)})(?=[\]-])")


def second(ids: Iterable[str]) -> set[str]:
    """Return those of these tests that another one of them tells in the world that their file is taken through."""
    stories: dict[str, dict[bool, str]] = defaultdict(dict)
    for one in ids:
        if named := _WORLD.search(one):
            stories[_WORLD.sub("*", one, count=1)][WORLDS[named[1]]] = one
    return {worlds[not embedded(one)] for one, worlds in stories.items() if len(worlds) == 2}


def embedded(test: str) -> bool:
    """Return whether the quick run takes the file of this test through the embedded world."""
    return crc32(test.partition("::")[0].encode()) % 2 == 0
