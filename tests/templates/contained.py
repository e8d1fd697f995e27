"""A process that renders the attacks with the variables of a name, each within 0.5 s of CPU and 1 GB, or dies."""

import copy
import json
import resource
import signal
import sys

from mailbbgun.core.errors import InvalidInput, TooLarge
from mailbbgun.templates.engine import Sources, render
from tests.templates.attacks import ATTACKS, VARIABLES

CPU = 0.5


def main(kind: str) -> None:
    """Print the name of each attack before it is tried, and what became of it."""
    resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    variables = VARIABLES[kind]
    before = copy.deepcopy(variables)
    for name, attack in ATTACKS.items():
        for part in ("text", "html"):
            print(json.dumps([name, part]), flush=True)
            signal.setitimer(signal.ITIMER_PROF, CPU)  # its signal ends the process, also inside of the engine
            try:
                made = render(Sources("x", **{part: attack}), variables)
                said = getattr(made, part)[:200]
            except (InvalidInput, TooLarge) as refused:
                said = None if refused.fields or isinstance(refused, TooLarge) else "no field"
            signal.setitimer(signal.ITIMER_PROF, 0)
            print(json.dumps(said), flush=True)
    assert variables == before


if __name__ == "__main__":
    main(sys.argv[1])
