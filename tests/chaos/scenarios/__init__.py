"""What is done to a service under load, by name. The first line of a scenario's docstring is what ``bin/chaos --list`` says of it."""

from tests.chaos.scenarios import links, processes, servers, storms
from tests.chaos.scenarios.table import SCENARIOS, Scenario

__all__ = ["SCENARIOS", "Scenario", "links", "processes", "servers", "storms"]
