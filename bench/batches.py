"""The phase that hands messages in by batches. Its figures are called as those of ``phases.accept``."""

from bench.phases import Bench, costs, metered, progressing
from bench.processes.service import Service
from bench.stats import Figures

BATCH_LEAST, BATCH_WARM = 20_000, 4000  # least messages in batches; and those before the clock starts
BATCH_CONNECTIONS = 4  # a request has a thousand messages, so two for each core are enough


def accept_batches(service: Service, bench: Bench) -> Figures:
    """Hand messages in by batches while nothing delivers them."""
    messages = batch_messages(bench.messages)
    progress = progressing(bench.bar, messages)
    service.open()
    service.hand_in_batches(bench.clients, 0, BATCH_WARM, bench.connections)
    meter = metered(service, bench.sink)
    handed_in = service.hand_in_batches(
        bench.clients,
        BATCH_WARM,
        messages,
        BATCH_CONNECTIONS,
        lambda line: progress(int(line) if line.isdigit() else 0),
    )
    used = meter.read()
    progress(messages)
    service.shut()
    rate = {"accept_rate": messages / handed_in["seconds"]}
    return rate | costs("accept", used | {"client": handed_in["cpu"]}, messages)


def batch_messages(messages: int) -> int:
    """Return how many messages are handed in by batches, in rounds of ``messages``."""
    return max(10 * messages, BATCH_LEAST)
