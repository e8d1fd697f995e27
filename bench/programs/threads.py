"""Sends from many threads, each with ``smtplib`` over one connection.

Run as ``python -m bench.programs.threads PORT COUNT THREADS``. It is for the slow sink, where
nearly all time is spent waiting, which threads can do side by side. As for all systems there, the
clock starts when each thread has had the time to send one message. Prints one line of JSON.
"""

import json
import sys
import threading
import time
from collections.abc import Callable

from bench.programs.loop import Send, by_smtplib, cpu_seconds, message
from bench.programs.payload import recipient


def run(port: int, count: int, threads: int) -> dict[str, float]:
    """Send ``count`` messages.

    Returns the seconds from message number ``threads`` to the last, and the CPU seconds of all.
    """
    raw, numbers = message(), iter(range(count))
    answered: list[float] = []

    def work(send: Send, end: Callable[[], object]) -> None:
        while (number := next(numbers, None)) is not None:
            send(recipient(number))
            answered.append(time.perf_counter())
        end()

    all_of_them = [
        threading.Thread(target=work, args=by_smtplib(port, raw), daemon=True) for _ in range(min(threads, count))
    ]
    before = cpu_seconds()
    for one in all_of_them:
        one.start()
    for one in all_of_them:
        one.join()
    if len(answered) != count:
        sys.exit(f"{len(answered)} of {count} were taken")
    moments = sorted(answered)
    return {"seconds": moments[-1] - moments[len(all_of_them) - 1], "cpu": cpu_seconds() - before}


if __name__ == "__main__":
    print(json.dumps(run(*map(int, sys.argv[1:4]))))
