"""Many plain loops at once: ``smtplib`` over one connection each, in threads: ``python -m bench.threads PORT COUNT THREADS``.

For the slow sink: almost all of the time is waiting, which threads can do side by side. The clock runs from when each thread could have
sent one message, as for everybody who sends into that sink. Prints one line of JSON.
"""

import json
import resource
import sys
import threading
import time
from collections.abc import Callable

from bench.loop import Send, by_smtplib, message
from bench.payload import recipient


def run(port: int, count: int, threads: int) -> dict[str, float]:
    """Send ``count`` messages and return seconds from message number ``threads`` to the last, and CPU seconds for all."""
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
    before = _cpu()
    for one in all_of_them:
        one.start()
    for one in all_of_them:
        one.join()
    if len(answered) != count:
        sys.exit(f"{len(answered)} of {count} were taken")
    moments = sorted(answered)
    return {"seconds": moments[-1] - moments[len(all_of_them) - 1], "cpu": _cpu() - before}


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    print(json.dumps(run(*map(int, sys.argv[1:4]))))
