"""The command line of ``bin/bench``."""

import os
import signal
import sys
import tempfile
from pathlib import Path

import click
from tqdm import tqdm

from bench import ROOT, BenchError, machine, report
from bench.run import CONFIGURATIONS, Options, run
from bench.sink import KINDS, Kind
from mailbbgun.base.errors import ConfigurationError
from mailbbgun.base.settings import PREFIX, load
from tests.servers.install import Missing

MESSAGES, ROUNDS = 5000, 3
QUICK_MESSAGES, QUICK_ROUNDS = 1000, 1
OUT = ROOT / "var" / "bench"


@click.command()
@click.option("--quick", is_flag=True, help=f"{QUICK_ROUNDS} round of {QUICK_MESSAGES} messages.")
@click.option("--messages", type=click.IntRange(100, 1_000_000), help=f"Messages of each part of a round.  [default: {MESSAGES}]")
@click.option("--rounds", type=click.IntRange(1, 100), help=f"Rounds; median and range are printed.  [default: {ROUNDS}]")
@click.option("--connections", type=click.IntRange(1, 200), default=16, show_default=True, help="Keep-alive connections that POST.")
@click.option("--only", type=click.Choice(CONFIGURATIONS), multiple=True, help="Only this configuration.")
@click.option("--sink", type=click.Choice(KINDS), default="auto", show_default=True, help="Where the mail goes; auto: smtp-sink if it can be had.")
@click.option("--setting", "settings", metavar="NAME=VALUE", multiple=True, help="A setting of the service other than its default.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=OUT, help="Folder of the JSON.  [default: var/bench]")
def main(
    quick: bool, messages: int | None, rounds: int | None, connections: int, only: tuple[str, ...], sink: Kind, settings: tuple[str, ...], out: Path
) -> None:
    """Measure accept, drain and latency of Mail BB Gun on this machine.

    "embedded" is SQLite and the embedded queue, "real" a private PostgreSQL and a private RabbitMQ, both as durable as they come.
    As root on Debian, what is missing of these servers and of Postfix's smtp-sink is installed; no daemon of theirs is started.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if "TMPDIR" not in os.environ and machine.filesystem(Path(tempfile.gettempdir())) == "tmpfs":
        tempfile.tempdir = "/var/tmp"  # durability costs nothing in memory, and figures from there would lie
    options = Options(
        messages=messages or (QUICK_MESSAGES if quick else MESSAGES),
        rounds=rounds or (QUICK_ROUNDS if quick else ROUNDS),
        connections=connections,
        configurations=tuple(name for name in CONFIGURATIONS if name in (only or CONFIGURATIONS)),
        sink=sink,
        settings=_pairs(settings),
    )
    try:
        with tqdm(total=options.work(), unit="", disable=None, leave=False, dynamic_ncols=True) as bar:
            results = run(options, bar)
    except KeyboardInterrupt:
        sys.exit(130)
    except (BenchError, Missing) as error:
        sys.exit(f"bench: {error}")
    path = report.save(results, out)
    print(report.table(results))
    print(f"\n{path}")


def _pairs(settings: tuple[str, ...]) -> dict[str, str]:
    pairs = [one.partition("=") for one in settings]
    for name, equals, _ in pairs:
        if not equals or not name.isupper():
            raise click.BadParameter(f"{name}: must be NAME=VALUE, as in WORKER_CONNECTIONS=40", param_hint="--setting")
    given = {name: value for name, _, value in pairs}
    try:
        load({f"{PREFIX}{name}": value for name, value in given.items()})
    except ConfigurationError as error:
        raise click.BadParameter(str(error), param_hint="--setting") from error
    return given


if __name__ == "__main__":
    main(prog_name="bin/bench")
