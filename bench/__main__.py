"""The command line of ``bin/bench``."""

import os
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from bench import ROOT, BenchError, backlog, report, slow_disk
from bench import against as against_
from bench import many_connections as many
from bench import slow_clients as slow
from bench.backlog import REPETITIONS
from bench.options import CONFIGURATIONS, Options
from bench.peers import PEERS
from bench.phases import Bar
from bench.processes import machine
from bench.processes.sink import KINDS, Kind
from bench.programs.shapes import NAMES
from bench.run import run
from mailbbgun.core.errors import ConfigurationError
from mailbbgun.core.process import run as run_program
from mailbbgun.core.process import version_option
from mailbbgun.settings.given import PREFIX
from mailbbgun.settings.load import load
from tests.servers.install import Missing
from tests.servers.process import PRELOAD

MESSAGES, ROUNDS = 5000, 3
QUICK_MESSAGES, QUICK_ROUNDS, QUICK_PEERS = 1000, 1, ("postfix",)
OUT = ROOT / "var" / "bench"


def _check_folder(out: Path) -> None:
    """Raise :class:`BenchError` if the figures could not be written in the end."""
    there = next(folder for folder in (out, *out.parents) if folder.exists())
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise BenchError(f"{out} cannot be written: {error.strerror}; --out FOLDER names another") from error


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@version_option
@click.option(
    "--quick",
    is_flag=True,
    help=f"{QUICK_ROUNDS} round of {QUICK_MESSAGES} messages; of the peers only {', '.join(QUICK_PEERS)}.",
)
@click.option(
    "--messages", type=click.IntRange(100, 1_000_000), help=f"Messages of each part of a round.  [default: {MESSAGES}]"
)
@click.option(
    "--rounds",
    type=click.IntRange(1, 100),
    help=f"Rounds; median and range are printed.  [default: {ROUNDS}, --backlog: {REPETITIONS}, --many-connections: 1]",
)
@click.option(
    "--connections",
    type=click.IntRange(1, 200),
    default=16,
    show_default=True,
    help="Keep-alive connections that POST.",
)
@click.option("--only", type=click.Choice(CONFIGURATIONS), multiple=True, help="Only this configuration.")
@click.option(
    "--peers",
    metavar="LIST",
    help=f"Whom to compare with: any of {', '.join(PEERS)}, with commas; or all, or none.  [default: all]",
)
@click.option(
    "--shapes",
    metavar="LIST",
    help=f"Shapes of mail to accept: any of {', '.join(NAMES)}, with commas; or all, or none.  [default: all]",
)
@click.option(
    "--slow-sink/--no-slow-sink", default=True, show_default=True, help="Also send into a sink that takes its time."
)
@click.option(
    "--only-drain",
    is_flag=True,
    help="Only drain a backlog of short messages, in clear text and over STARTTLS.",
)
@click.option(
    "--sink",
    type=click.Choice(KINDS),
    default="auto",
    show_default=True,
    help="Where the mail goes; auto: smtp-sink if it can be had.",
)
@click.option(
    "--backlog",
    "pending",
    metavar="N",
    type=click.IntRange(backlog.FEW),
    help="Instead: what so many pending ones cost.",
)
@click.option(
    "--against",
    metavar="COMMIT",
    help="Instead: this tree and another commit in turns: accept of each shape, and drain, also over STARTTLS.",
)
@click.option(
    "--many-connections",
    is_flag=True,
    help="Instead: a worker of 1,000 connections into a slow sink, and beside a tarpit; also of --against.",
)
@click.option("--slow-clients", is_flag=True, help="Instead: latency beside hundreds of clients that stall.")
@click.option(
    "--setting",
    "settings",
    metavar="NAME=VALUE",
    multiple=True,
    help="A setting of the service other than its default.",
)
@click.option(
    "--fsync-ms",
    type=click.FloatRange(0.01, 100),
    help="Let each fsync of all that is measured take so much longer, as on another disk. Needs a C compiler.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=OUT,
    help="Folder of what is written.  [default: var/bench]",
)
def main(
    rounds: int | None,
    pending: int | None,
    against: str | None,
    many_connections: bool,
    slow_clients: bool,
    fsync_ms: float | None,
    out: Path,
    **given: Any,
) -> None:
    """Measure accept, drain, end to end and latency of Mail BB Gun on this machine, beside other mail systems.

    "embedded" is SQLite and the embedded queue, "real" a private PostgreSQL and a private RabbitMQ, both as
    durable as they come. As root on Debian, what is missing of these servers and of Postfix is installed; none of
    their daemons is started. The peers written in Python get a virtual environment, var/bench/peers. Table, JSON
    and SVG are written to var/bench.

    With --backlog the same work is done beside 1,000 and beside N pending messages, on "real" alone, and a worker's
    memory is watched while it drains a part of them, or all if they are few. A million takes five minutes and six
    gigabytes of disk.

    With --many-connections one worker process has 1,000 connections: into a slow sink, and beside a server that
    never answers. --against and --only count there, too.

    With --against another commit of this repository is measured beside the working tree, in turns, in the same
    environment: of rates and of CPU a message, the ratio of each round counts.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if fsync_ms and PRELOAD not in os.environ:
        try:
            sys.exit(slow_disk.run(fsync_ms, sys.argv[1:]))
        except Missing as error:
            sys.exit(f"bench: {error}")
    _leave_memory()
    options = _options(rounds, **given)
    try:
        if slow_clients:
            print(slow.run(options.settings, lambda kind: print(f"bench: beside {kind}", file=sys.stderr)))
            return
        _check_folder(out)
        if many_connections:
            text, paths = _many_connections(replace(options, rounds=rounds or 1), against, out)
        else:
            text, paths = _measured(pending, against, options, rounds, out)
    except KeyboardInterrupt:
        sys.exit(130)
    except (BenchError, Missing) as error:
        sys.exit(f"bench: {error}")
    print(text, "", *paths, sep="\n")


def _leave_memory() -> None:
    """Leave a tmpfs for temporary files: durability costs nothing there, and figures would lie."""
    if "TMPDIR" not in os.environ and machine.filesystem(Path(tempfile.gettempdir())) == "tmpfs":
        tempfile.tempdir = "/var/tmp"


def _options(
    rounds: int | None,
    *,
    quick: bool,
    messages: int | None,
    connections: int,
    only: tuple[str, ...],
    peers: str | None,
    shapes: str | None,
    slow_sink: bool,
    only_drain: bool,
    sink: Kind,
    settings: tuple[str, ...],
) -> Options:
    """Return what was asked for, with defaults. Raises :class:`click.BadParameter`."""
    return Options(
        messages=messages or (QUICK_MESSAGES if quick else MESSAGES),
        rounds=rounds or (QUICK_ROUNDS if quick else ROUNDS),
        connections=connections,
        configurations=tuple(name for name in CONFIGURATIONS if name in (only or CONFIGURATIONS)),
        peers=_listed("--peers", peers, PEERS, QUICK_PEERS if quick else PEERS),
        shapes=() if only_drain else _listed("--shapes", shapes, NAMES, NAMES),
        slow_sink=slow_sink and not only_drain,
        only_drain=only_drain,
        sink=sink,
        settings=_pairs(settings),
    )


def _measured(
    pending: int | None, against: str | None, options: Options, rounds: int | None, out: Path
) -> tuple[str, list[Path]]:
    """Measure beside a backlog, against a commit, or everything; return the table and the files."""
    with tqdm(total=1, unit="", disable=None, leave=False, dynamic_ncols=True) as bar:
        if pending:
            return _backlog(pending, options, rounds or REPETITIONS, out, bar)
        if against:
            return _against(against, options, out, bar)
        return _all(options, out, bar)


def _all(options: Options, out: Path, bar: Bar) -> tuple[str, list[Path]]:
    results = run(options, bar)
    return report.table(results), report.save(results, out)


def _against(commit: str, options: Options, out: Path, bar: Bar) -> tuple[str, list[Path]]:
    results = against_.run(options, commit, bar)
    return against_.table(results), against_.save(results, out)


def _many_connections(options: Options, against: str | None, out: Path) -> tuple[str, list[Path]]:
    with tqdm(total=1, unit="", disable=None, leave=False, dynamic_ncols=True) as bar:
        results = many.run(options, against, bar)
    return many.table(results), many.save(results, out)


def _backlog(messages: int, options: Options, repetitions: int, out: Path, bar: Bar) -> tuple[str, list[Path]]:
    results = backlog.run(messages, options.sink, options.settings, bar, repetitions)
    return backlog.table(results), backlog.save(results, out)


def _listed(option: str, given: str | None, known: tuple[str, ...], default: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of a comma-separated list, in the order of ``known``."""
    named = {None: default, "all": known, "none": ()}.get(given)
    if named is None:
        named = tuple(name.strip() for name in str(given).split(","))
    if unknown := [name for name in named if name not in known]:
        raise click.BadParameter(f"{unknown[0]!r} is not one of {', '.join(known)}", param_hint=option)
    return tuple(name for name in known if name in named)


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
    run_program("bin/bench", main)
