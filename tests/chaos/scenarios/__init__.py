"""What ``bin/chaos`` does to a service under load, by name.

``bin/chaos --list`` prints the first line of each scenario's docstring.
"""

from tests.chaos.scenarios import batches, links, processes, servers, smtp, storms, webhooks
from tests.chaos.scenarios.table import SCENARIOS, Scenario

__all__ = ["SCENARIOS", "Scenario", "batches", "links", "processes", "servers", "smtp", "storms", "webhooks"]
