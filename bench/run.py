"""Plans a run: starts the servers, then measures every system in each round, in changing order."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from subprocess import SubprocessError

from bench.options import REAL, REFERENCE, SLOW_COMMANDS, SLOW_CONNECTIONS, SLOW_SECONDS, THEORY, Options
from bench.peers import PYTHON, environment
from bench.peers.postfix import check as check_postfix
from bench.phases import Bar, Bench
from bench.processes import machine, postfix
from bench.processes.clients import Clients
from bench.processes.servers import Servers
from bench.processes.sink import Sink
from bench.stats import Figures, with_ratios
from bench.turns import Turn, Turns
from tests.servers.install import Missing


@dataclass(frozen=True, slots=True)
class Results:
    """All results of a run.

    ``rounds`` is a list of system → metric; ``missing`` maps a system that could not be measured to
    the reason.
    """

    time: datetime
    machine: dict[str, object]
    options: Options
    rounds: list[dict[str, Figures]]
    missing: dict[str, str]


def run(options: Options, bar: Bar) -> Results:
    """Start the servers, measure, and stop everything.

    Raises :class:`BenchError` or :class:`tests.servers.install.Missing`.
    """
    with ExitStack() as stack:
        bar.set_description("peers")
        python, missing = _prepared(options)
        bar.set_description("servers")
        servers = _started(options, missing, stack)
        options = replace(options, configurations=tuple(name for name in options.configurations if name not in missing))
        sink, clients = stack.enter_context(Sink(options.sink)), stack.enter_context(Clients())
        if sink.why:
            bar.write(f"the sink is a slower one in Python: {sink.why}")
        facts = machine.facts(sink.name, (servers.versions() if servers else {}) | _versions(options, missing))
        bench = Bench(options.messages, options.connections, options.sessions(), sink, clients, bar)
        turns = [turn for turn in Turns(options, servers, bench, python).all() if turn.subject not in missing]
        began = datetime.now(UTC)
        bar.reset(total=options.rounds * sum(turn.share for turn in turns))
        rounds = [
            with_ratios(one_round(turns, number, options, bar, missing), REFERENCE) for number in range(options.rounds)
        ]
        return Results(began, facts, options, rounds, missing)


def _prepared(options: Options) -> tuple[Path, dict[str, str]]:
    """Return the Python peers' interpreter, and the reasons why some peers cannot be measured."""
    python = Path()
    missing: dict[str, str] = {}
    wanted = [peer for peer in options.peers if peer in PYTHON]
    if wanted:
        try:
            python = environment.python()
        except Missing as error:
            missing |= dict.fromkeys(wanted, str(error))
    if "postfix" in options.peers:
        try:
            check_postfix()
        except Missing as error:
            missing["postfix"] = str(error)
    return python, missing


def _started(options: Options, missing: dict[str, str], stack: ExitStack) -> Servers | None:
    """Return the servers if a system needs them.

    If they cannot be installed, adds the systems that need them to ``missing``. Raises
    :class:`tests.servers.install.Missing` if then nothing of our own would be measured.
    """
    needing = [
        name for name in (*options.configurations, *options.peers) if name in (REAL, *PYTHON) and name not in missing
    ]
    if not needing:
        return None
    try:
        return stack.enter_context(Servers())
    except Missing as error:
        if options.configurations == (REAL,):
            raise
        missing |= dict.fromkeys(needing, str(error))
        return None


def _versions(options: Options, missing: dict[str, str]) -> dict[str, str]:
    names = {
        "postfix": ["Postfix"],
        "celery": ["celery"],
        "post_office": ["django-post_office", "Django"],
        "design_2017": ["pika"],
    }
    known = environment.versions()
    if "postfix" in options.peers and "postfix" not in missing:
        known["Postfix"] = postfix.default("mail_version")
    return {name: known[name] for peer in options.peers if peer not in missing for name in names[peer]}


def one_round(
    turns: list[Turn], number: int, options: Options, bar: Bar, missing: dict[str, str]
) -> dict[str, Figures]:
    """Take all turns of a round and return system → figures.

    An optional turn that fails is added to ``missing`` and not tried again.
    """
    figures: dict[str, Figures] = {}
    first = number % len(turns)
    done = number * sum(turn.share for turn in turns)
    for turn in turns[first:] + turns[:first]:
        done += turn.share
        if turn.subject not in missing:
            bar.set_description(f"{number + 1}/{options.rounds} {turn.what}")
            try:
                figures.setdefault(turn.subject, {}).update(turn.measure())
            except (RuntimeError, OSError, SubprocessError) as error:
                if not turn.optional:
                    raise
                missing[turn.subject] = f"{turn.what}: {error}"
        bar.update(done - bar.n)
    if options.slow_sink:
        figures[THEORY] = {"slow_rate": SLOW_CONNECTIONS / SLOW_COMMANDS / SLOW_SECONDS}
    return {subject: own for subject, own in figures.items() if own}
