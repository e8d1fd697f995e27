"""What the quick run leaves to ``--all``, and the second world of a story that one world tells.

The quick run goes through every door and every table. Two kinds of tests run with ``--all`` only,
which continuous integration gives:

- *The other world.* Stories run in two worlds: embedded, which is SQLite and the queue of our own,
  and real, which is PostgreSQL and RabbitMQ. The quick run takes each file through one of them,
  chosen by the file's name, so that about half of the files meet each. What is marked ``both`` runs
  in both every time: the first stories of the doors, and what each database does in its own way.
- *What is marked* ``long``: rounds of killing and of outages, fuzzing, memory and timing with many
  examples, and further programs or options of a kind of which the quick run tries one. Mark a test
  so if it takes more than about five seconds of CPU, and a quick one guards the same promise.
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
