"""The table of scenarios. Each is a function of a round that ends with the check."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos.round import Round

Run = Callable[[Round], None]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario, and the configurations it can run on."""

    name: str
    run: Run
    kinds: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """What it does, in one line."""
        return (self.run.__doc__ or "").splitlines()[0]


SCENARIOS: dict[str, Scenario] = {}


def scenario(*kinds: str) -> Callable[[Run], Run]:
    """Enter a function into the table. Its name gets dashes for underscores."""

    def enter(run: Run) -> Run:
        name = run.__name__.replace("_", "-")
        SCENARIOS[name] = Scenario(name, run, kinds)
        return run

    return enter
