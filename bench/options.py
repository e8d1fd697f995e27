"""The options of a run, and the names of what it measures."""

from dataclasses import dataclass, fields

from bench.processes.sink import Kind
from mailbbgun.settings.settings import Settings

EMBEDDED, REAL = "embedded", "real"
CONFIGURATIONS = (EMBEDDED, REAL)
KEYS = "keys"  # Mail BB Gun once more, in the last configuration, with AUTH_REQUIRED
SIGNED = "signed"  # and once more, with a sending domain whose keys sign
WATCHED = "watched"  # and once more, with webhooks that get every event
BATCHES = {name: f"{name}_batches" for name in CONFIGURATIONS}  # and once more, accepting batches
REFERENCE, OUR_CLIENT = "smtplib", "client"
PIPELINED, SOURCE = "pipelined", "smtp-source"
THREADS, THEORY = "threads", "theory"

TLS_PROCESSES = 2  # of the sink with TLS, which does as much work as what is measured

SLOW_CONNECTIONS, SLOW_SECONDS = 200, 0.05
SLOW_COMMANDS = 4  # MAIL, RCPT, DATA and the end of the message
SLOW_WAVES = 10  # least messages per connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user asked for on the command line."""

    messages: int
    rounds: int
    connections: int
    configurations: tuple[str, ...]
    peers: tuple[str, ...]
    slow_sink: bool
    sink: Kind
    settings: dict[str, str]
    shapes: tuple[str, ...] = ()
    only_drain: bool = False

    def sessions(self) -> int:
        """Return how many connections to the sink each system may use: as many as our worker."""
        [default] = [one.default for one in fields(Settings) if one.name == "WORKER_CONNECTIONS"]
        return int(self.settings.get("WORKER_CONNECTIONS", str(default)))

    def slow_messages(self) -> int:
        """Return how many messages go into the slow sink in a round."""
        return max(self.messages * 4 // 5, SLOW_WAVES * SLOW_CONNECTIONS)
