"""What a person can ask for, and what the subjects of a run are called."""

from dataclasses import dataclass, fields

from bench.sink import Kind
from mailbbgun.settings.settings import Settings

EMBEDDED, REAL = "embedded", "real"
CONFIGURATIONS = (EMBEDDED, REAL)
KEYS = "keys"  # the last of these once more, asking for API keys
REFERENCE, OUR_CLIENT = "smtplib", "client"
PIPELINED, SOURCE = "pipelined", "smtp-source"
THREADS, THEORY = "threads", "theory"

SLOW_CONNECTIONS, SLOW_SECONDS = 200, 0.05
SLOW_COMMANDS = 4  # MAIL, RCPT, DATA and the end of the message
SLOW_WAVES = 10  # messages over each connection, at least


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the person asked for."""

    messages: int
    rounds: int
    connections: int
    configurations: tuple[str, ...]
    peers: tuple[str, ...]
    slow_sink: bool
    sink: Kind
    settings: dict[str, str]
    shapes: tuple[str, ...] = ()

    def sessions(self) -> int:
        """Return how many connections to the sink a worker of ours has, and so everybody."""
        [default] = [one.default for one in fields(Settings) if one.name == "WORKER_CONNECTIONS"]
        return int(self.settings.get("WORKER_CONNECTIONS", str(default)))

    def slow_messages(self) -> int:
        """Return how many messages go into the slow sink in a round."""
        return max(self.messages * 4 // 5, SLOW_WAVES * SLOW_CONNECTIONS)
