"""Signals that ask a program to end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mailbbgun.core.process import Insistence
from tests.waiting import PATIENCE, wait_until

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import os, sys, time
from mailbbgun.core.process import on_stop
# Not an Event: another signal may interrupt its set(), and then wait for its lock for ever.
stops = []
on_stop(lambda: (os.write(1, b"told\\n"), stops.append(True)))
print("ready", flush=True)
while not (stops and sys.stdin.readline()):
    time.sleep(0.05)
"""


def started(program: str = PROGRAM, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [*prefix, sys.executable, "-c", program],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def told(process: subprocess.Popen[str], number: int) -> None:
    process.send_signal(number)
    assert process.stdout
    assert process.stdout.readline() == "told\n"


@pytest.mark.parametrize(
    "numbers",
    [
        [signal.SIGHUP],
        [signal.SIGQUIT],
        [signal.SIGINT],
        [signal.SIGTERM],
        [signal.SIGHUP, signal.SIGHUP, signal.SIGHUP],  # a terminal that closes
        [signal.SIGTERM, signal.SIGHUP],  # from systemd with SendSIGHUP
        [signal.SIGHUP, signal.SIGTERM],
    ],
    ids=lambda numbers: " ".join(one.name for one in numbers),
)
def test_a_program_that_is_asked_to_end_finishes_its_work(numbers: list[signal.Signals]) -> None:
    with started() as process:
        for number in numbers:
            told(process, number)
        process.communicate("go on\n", timeout=PATIENCE)
        assert process.returncode == 0


@pytest.mark.parametrize("numbers", [[signal.SIGTERM, signal.SIGINT], [signal.SIGINT, signal.SIGHUP, signal.SIGINT]])
def test_a_person_who_asks_again_ends_it_at_once(numbers: list[signal.Signals]) -> None:
    with started() as process:
        for number in numbers[:-1]:
            told(process, number)

        def told_again() -> bool:
            process.send_signal(numbers[-1])  # within a second of the first it is the same request
            return process.poll() is not None

        wait_until(told_again, "the end")
        assert process.returncode == 1


def test_several_signals_at_once_are_one_request() -> None:
    with started() as process:
        process.send_signal(signal.SIGSTOP)
        # They arrive together when the process goes on, like those that timeout sends to a process
        # and its group.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        process.communicate("go on\n", timeout=PATIENCE)
        assert process.returncode == 0


T, H = signal.SIGTERM, signal.SIGHUP


@pytest.mark.parametrize(
    ("signals", "insists"),
    [
        ([(0.0, T)], False),
        ([(0.0, T), (0.0, T), (0.99, T)], False),
        ([(0.0, T), (1.0, T)], True),
        ([(0.0, T), (0.5, T), (1.0, T)], True),
        ([(0.0, H), (5.0, T)], False),
        ([(0.0, H), (5.0, T), (6.0, T)], True),
        ([(0.0, T), (5.0, H)], False),
    ],
)
def test_a_signal_a_second_after_the_first_one_means_now(signals: list[tuple[float, int]], insists: bool) -> None:
    moments = iter([moment for moment, number in signals if number != H])
    insistence = Insistence(lambda: next(moments))
    assert [insistence.heard(number) for _, number in signals][-1] is insists


def test_under_nohup_a_hang_up_stays_ignored() -> None:
    with started(prefix=("nohup",)) as process:
        process.send_signal(signal.SIGHUP)
        told(process, signal.SIGTERM)
        process.communicate("go on\n", timeout=PATIENCE)
        assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT, signal.SIGINT])
def test_a_command_that_is_told_to_end_says_so_in_one_line(number: signal.Signals) -> None:
    program = """
import click, time
from mailbbgun.core.process import run
from mailbbgun.core.process import interrupting
@click.command()
def main():
    with interrupting():
        print("ready", flush=True)
        time.sleep(60)
run("command", main)
"""
    with started(program) as process:
        process.send_signal(number)
        _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors.strip()) == (130, "command: interrupted")


def test_output_that_nobody_reads_or_that_cannot_be_written_prints_no_traceback() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAILBBGUN_")}
    keys = f"'{ROOT}/bin/generate-keys' --count 1000"
    for command, code, said in (
        (f"{keys} | head -1 >/dev/null", 0, ""),
        (f"{keys} >&-", 0, ""),
        (f"{keys} >/dev/full", 1, "generate-keys: cannot write: No space left on device\n"),
        (f"{keys} >&- 2>&- <&-", 0, ""),
        (f"'{ROOT}/bin/mailbbgun' --help >/dev/full", 1, "mailbbgun: cannot write: No space left on device\n"),
        (f"'{ROOT}/bin/mailbbgun' --help | true", 0, ""),
    ):
        done = subprocess.run(
            ["sh", "-c", command], env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert (done.returncode, done.stderr) == (code, said), command
