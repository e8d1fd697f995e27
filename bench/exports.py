"""Whether an export of millions of events takes the memory of one: ``python -m bench.exports``.

It fills the log on a PostgreSQL of its own, and exports all of it twice: by HTTP, and with the command line. The
memory of the process that makes the file is looked at every few seconds.
"""

import argparse
import http.client
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from mailbbgun.settings.load import load
from tests.flow.service import ROOT, Service
from tests.servers.postgresql import PostgreSQL

#: Rows of one transaction that fills the log.
PIECE = 200_000
#: Bytes taken from the export at once.
BLOCK = 1 << 20
#: Seconds between two looks at the memory.
LOOK_SECONDS = 2.0

_FILL = """
    INSERT INTO events (id, tenant_id, message_id, delivery_id, at, kind, data)
    SELECT gen_random_uuid(), d.tenant_id, d.message_id, d.id, now(),
        (array['deferred', 'bounced', 'delivered'])[1 + n % 3], json_build_object('reply', '450 4.2.1 later ' || n)
    FROM generate_series(1, :rows) AS n, (SELECT * FROM deliveries LIMIT 1) AS d
"""


class Memory:
    """The resident memory of a process while something is read of it, in MB."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self.seen: list[float] = []
        self._next = 0.0

    def look(self) -> None:
        """Look, if the last look is long enough ago."""
        if (now := time.monotonic()) >= self._next:
            self._next = now + LOOK_SECONDS
            (line,) = [line for line in self._status.read_text().splitlines() if line.startswith("VmRSS")]
            self.seen.append(int(line.split()[1]) / 1024)

    def __str__(self) -> str:
        at = [self.seen[int(part * (len(self.seen) - 1))] for part in (0, 0.1, 0.5, 1)]
        first, tenth, half, last = (f"{one:.0f}" for one in at)
        return (
            f"memory {first} MB at first, {tenth} at a tenth, {half} at half, {last} at last; most {max(self.seen):.0f}"
        )


def taken(blocks: Iterator[bytes], memory: Memory) -> str:
    """Read an export to its end; return how large it was, how long it took and what memory it needed."""
    began, size, lines = time.monotonic(), 0, 0
    for block in blocks:
        size += len(block)
        lines += block.count(b"\n")
        memory.look()
    return f"{lines:,} lines, {size / 1e6:,.0f} MB, {time.monotonic() - began:.0f} s, {memory}"


def by_http(service: Service) -> str:
    """Export all events from the API."""
    (api,) = _children(service.processes["api"].pid)
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=600)
    connection.request("GET", "/exports/events")
    answer = connection.getresponse()
    if answer.status != 200:
        raise SystemExit(answer.read().decode())
    return taken(iter(lambda: answer.read(BLOCK), b""), Memory(api))


def by_command(service: Service) -> str:
    """Export all events with the command line."""
    command = [str(ROOT / "bin" / "mailbbgun"), "export", "events"]
    with subprocess.Popen(command, cwd=ROOT, env=service.environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        output = process.stdout
        return taken(iter(lambda: output.read(BLOCK), b""), Memory(process.pid))


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def main() -> None:
    """Measure on PostgreSQL."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, PostgreSQL() as server:
        server.start()
        url = server.url(server.create_database())
        settings = load({"MAILBBGUN_VAR": folder, "MAILBBGUN_DATABASE_URL": url})
        with Service(settings) as service:
            service.post(to="ann@example.test")
            began = time.monotonic()
            for _ in range(0, given.events, PIECE):
                service.sql(_FILL, rows=min(PIECE, given.events))
            print(f"filled in {time.monotonic() - began:.0f} s", flush=True)
            print(f"HTTP:    {by_http(service)}", flush=True)
            print(f"command: {by_command(service)}", flush=True)


if __name__ == "__main__":
    main()
