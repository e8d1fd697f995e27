"""The command line of ``bin/chaos``."""

import contextlib
import json
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import click
from tqdm import tqdm

from mailbbgun.core.process import run, version_option
from tests.chaos.check import Figures, Wrong
from tests.chaos.round import EMBEDDED, REAL, LeftOut, Round, settings_of
from tests.chaos.scenarios import SCENARIOS, Scenario
from tests.chaos.soak import EVERY, Soaked, soak
from tests.chaos.trend import table
from tests.flow.service import ROOT
from tests.servers import PostgreSQL, RabbitMQ
from tests.servers.install import Missing

ROUNDS = 200
LOGS = ROOT / "var" / "chaos"


class Servers(ExitStack):
    """A private PostgreSQL and a private RabbitMQ, which may be stopped, killed and wiped."""

    def __init__(self) -> None:
        super().__init__()
        self.postgresql, self.rabbitmq = PostgreSQL(own=True), RabbitMQ(own=True)
        self.callback(self.postgresql.close)
        self.callback(self.rabbitmq.close)

    def start(self) -> None:
        """Start the servers that are down."""
        self.rabbitmq.launch()
        self.postgresql.start()
        self.rabbitmq.start()


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@version_option
@click.option("--rounds", type=click.IntRange(1, 1_000_000), default=ROUNDS, show_default=True)
@click.option(
    "--seed",
    type=click.IntRange(0),
    help="Of the first round; each next one has the next number.  [default: by chance]",
)
@click.option(
    "--only",
    "names",
    metavar="SCENARIO",
    type=click.Choice(list(SCENARIOS)),
    multiple=True,
    help="Draw from these alone.",
)
@click.option("--messages", type=click.IntRange(1), help="Messages of each round.  [default: 100 to 300, drawn]")
@click.option(
    "--soak",
    "minutes",
    metavar="MINUTES",
    type=click.FloatRange(0.2),
    help="Instead: do nothing to it for so long, and see what grows.",
)
@click.option(
    "--on", "kind", type=click.Choice([REAL, EMBEDDED]), default=REAL, show_default=True, help="What --soak runs on."
)
@click.option("--list", "listed", is_flag=True, help="Say what there is, and end.")
def main(
    rounds: int,
    seed: int | None,
    names: tuple[str, ...],
    messages: int | None,
    minutes: float | None,
    kind: str,
    listed: bool,
) -> None:
    """Do to a running Mail BB Gun what happens to servers, and compare all mail accepted with all mail that arrived.

    A round draws one scenario and its parameters from its seed, which repeats them, though not their timing. Exit
    code 1 when any mail was lost, came twice without a mark, or has a status that is not true; the logs of such a
    round are kept.

    With --soak it runs undisturbed under mixed load while files, memory, threads, connections, tables and journals
    are looked at each ten seconds. Exit code 1 also when one of them grows beyond its bound, which the table shows;
    in less than ten minutes bounds are loose.
    """
    if listed:
        for one in SCENARIOS.values():
            print(f"{one.name:22} {' '.join(one.kinds):14} {one.sentence}")
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    chosen = [SCENARIOS[name] for name in names or SCENARIOS]
    first = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    if minutes:
        sys.exit(_soak(minutes, kind, first))
    try:
        with (
            Servers() as servers,
            tqdm(total=rounds, unit="round", disable=None, leave=False, dynamic_ncols=True, file=sys.stderr) as bar,
        ):
            done = list(_rounds(servers, chosen, range(first, first + rounds), messages, bar))
    except KeyboardInterrupt:
        sys.exit(130)
    except Missing as error:
        sys.exit(f"chaos: {error}")
    sys.exit(_summed_up(done))


def _summed_up(done: "list[Ended]") -> int:
    """Print the sums of all rounds; return the exit code."""
    figures = [one.figures for one in done if one.figures]
    failed = sum(1 for one in done if not one.well)
    print(f"{len(done)} rounds, {failed} failed, {sum(one.accepted for one in figures)} accepted")
    sums = {name: sum(getattr(one, name) for one in figures) for name in ("lost", "duplicated", "unknown")}
    print(", ".join(f"{name} {count}" for name, count in sums.items()))
    return 1 if failed else 0


def _soak(minutes: float, kind: str, seed: int) -> int:
    """Soak, print the table and keep every sample; return the exit code."""
    folder = LOGS / f"soak-{kind}-{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}"
    folder.mkdir(parents=True)
    bar = tqdm(total=round(minutes * 60), unit="s", disable=None, leave=False, dynamic_ncols=True, file=sys.stderr)
    began = time.monotonic()

    def on_sample(what: str) -> None:
        bar.set_description(what)
        bar.update(round(time.monotonic() - began) - bar.n)

    try:
        with Servers() as servers, bar:
            if kind == REAL:
                servers.start()
            log = (folder / "soak.log").open("w")
            with log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
                with settings_of(kind, folder / "var", servers.postgresql, servers.rabbitmq) as settings:
                    soaked = soak(settings, minutes, EVERY, seed, on_sample)
    except KeyboardInterrupt:
        return 130
    except Missing as error:
        sys.exit(f"chaos: {error}")
    except Exception as error:  # noqa: BLE001 - the user wants to know what failed, whatever it is
        why = " ".join(str(error).split())[:2000] or type(error).__name__
        print(f"soak [{kind}] seed {seed}: FAILED: {why}\n    logs: {folder}")
        return 1
    shutil.rmtree(folder / "var")
    (folder / "soak.log").unlink()
    _keep(soaked, folder / "samples.json")
    counts = f"{soaked.messages} messages, {soaked.reads} reads; {soaked.figures}"
    print(f"soak [{kind}] seed {seed}, {minutes:g} minutes: {counts}")
    print(f"{table(soaked.trends)}\n\n{folder / 'samples.json'}")
    return 0 if soaked.well else 1


def _keep(soaked: Soaked, path: Path) -> None:
    found = {name: asdict(one) for name, one in soaked.trends.items()}
    path.write_text(json.dumps({"times": soaked.times, "samples": soaked.samples, "trends": found}))


@dataclass(frozen=True, slots=True)
class Ended:
    """How a round ended. ``figures`` is None if it failed before the check."""

    well: bool
    description: str
    figures: Figures | None


def _rounds(
    servers: Servers, chosen: list[Scenario], seeds: range, messages: int | None, bar: "tqdm[None]"
) -> Iterator[Ended]:
    for number, seed in enumerate(seeds, 1):
        scenario = random.Random(f"scenario {seed}").choice(chosen)
        bar.set_description(f"{scenario.name} {seed}")
        began = time.monotonic()
        try:
            ended = _round(servers, scenario, seed, messages or 0)
        except LeftOut as error:
            bar.write(f"{number}/{len(seeds)} {scenario.name} left out: {error}", file=sys.stdout)
            bar.update()
            continue
        head = (
            f"{number}/{len(seeds)} {scenario.name} [{ended.description}] seed {seed}, {time.monotonic() - began:.0f} s"
        )
        bar.write(f"{head}: {ended.figures if ended.well else 'FAILED'}", file=sys.stdout)
        if not ended.well:
            again = f"bin/chaos --rounds 1 --seed {seed} --only {scenario.name}" + (
                f" --messages {messages}" if messages else ""
            )
            bar.write(f"    again: {again}\n    logs: {_folder(scenario, seed)}", file=sys.stdout)
        sys.stdout.flush()
        bar.update()
        yield ended


def _round(servers: Servers, scenario: Scenario, seed: int, messages: int) -> Ended:
    folder, dice = _folder(scenario, seed), random.Random(seed)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    kind = dice.choice(scenario.kinds)
    round_ = None
    with (folder / "round.log").open("w") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        try:
            if kind == REAL:
                servers.start()
            with settings_of(kind, folder, servers.postgresql, servers.rabbitmq) as settings:
                round_ = Round(dice, settings, servers.postgresql, servers.rabbitmq, messages)
                round_.say(kind)
                scenario.run(round_)
        except LeftOut:
            raise
        except Exception as error:  # noqa: BLE001 - any error fails this round; the next one goes on
            traceback.print_exc()
            why = " ".join(str(error).split())[:500] or type(error).__name__
            figures = error.figures if isinstance(error, Wrong) else None
            return Ended(False, f"{round_.description if round_ else kind}: {why}", figures)
    shutil.rmtree(folder)
    return Ended(True, round_.description, round_.figures)


def _folder(scenario: Scenario, seed: int) -> Path:
    return LOGS / f"{scenario.name}-{seed}"


if __name__ == "__main__":
    run("bin/chaos", main)
