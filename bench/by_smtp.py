"""The phase that accepts by SMTP: one client submits the same messages to every system."""

from bench.phases import ACCEPT_WARM, Bench, costs, metered, progressing
from bench.processes.system import SmtpSystem
from bench.stats import Figures

PHASE = "accept_smtp"


def accept_smtp(system: SmtpSystem, bench: Bench) -> Figures:
    """Submit messages by SMTP while nothing delivers them; the same client for all systems."""
    messages, progress = bench.messages, progressing(bench.bar, bench.messages)
    system.open_smtp()
    system.submit(bench.clients, 0, ACCEPT_WARM, bench.connections)
    meter = metered(system, bench.sink)

    def tell(line: str) -> None:
        progress(int(line) if line.isdigit() else 0)

    submitted = system.submit(bench.clients, ACCEPT_WARM, messages, bench.connections, tell)
    used = meter.read() | {"client": submitted["cpu"]}
    system.shut_smtp()
    progress(messages)
    return {f"{PHASE}_rate": messages / submitted["seconds"]} | costs(PHASE, used, messages)
