"""Hands messages to a Python peer as fast as it takes them.

Run as ``python -m bench.peers.submit PEER FIRST COUNT CONNECTIONS``. It starts as many threads as
our bench has connections, in one process per core, like a web application that calls the peer. It
prints the number of submitted messages from time to time, and one line of JSON at the end.
"""

import importlib
import json
import multiprocessing
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier

from bench.peers import CORES
from bench.programs.payload import recipient

TELL = 100  # messages of one process between two lines of progress


def run(peer: str, first: int, count: int, connections: int) -> dict[str, float]:
    """Hand ``count`` messages in.

    Returns when it began, the seconds it took, and the CPU seconds of the submitting processes.
    """
    processes, context = min(CORES, connections), multiprocessing.get_context("fork")
    shares = [len(range(number, connections, processes)) for number in range(processes)]
    ready, pipes = context.Barrier(connections + 1), []
    for number, threads in enumerate(shares):
        numbers = range(first + number, first + count, processes)
        ours, theirs = context.Pipe(duplex=False)
        context.Process(
            target=_process, args=(peer, iter(numbers), len(numbers), threads, processes, ready, theirs), daemon=True
        ).start()
        theirs.close()
        pipes.append(ours)
    ready.wait(60)
    began = time.perf_counter()
    try:
        reports = [pipe.recv() for pipe in pipes]
    except EOFError:
        sys.exit("a process that hands in has died")
    seconds = max(ended for ended, _, _ in reports) - began
    if (done := sum(done for _, _, done in reports)) != count:
        sys.exit(f"{done} of {count} were taken")
    return {"began": began, "seconds": seconds, "cpu": sum(cpu for _, cpu, _ in reports)}


def _process(
    peer: str, numbers: Iterator[int], count: int, threads: int, processes: int, ready: Barrier, pipe: Connection
) -> None:
    module = importlib.import_module(f"bench.peers.{peer}")
    done: list[int] = []

    def work() -> None:
        submit = module.submitter()
        connected.wait(60)
        ready.wait(60)
        for number in numbers:
            submit(recipient(number))
            done.append(number)
            if processes * len(done) % TELL < processes:
                print(processes * len(done), flush=True)

    connected = threading.Barrier(threads + 1)
    all_of_them = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for one in all_of_them:
        one.start()
    connected.wait(60)
    before = time.process_time()
    for one in all_of_them:
        one.join()
    pipe.send((time.perf_counter(), time.process_time() - before, len(done)))


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], *map(int, sys.argv[2:5]))))
