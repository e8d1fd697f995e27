"""Damage to servers: broker, database and receiver killed, stopped, wiped, full; junk hints."""

import contextlib
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pika

from mailbbgun.core.errors import QueueUnavailable
from mailbbgun.core.ids import new_id
from mailbbgun.queues.base import Queue
from mailbbgun.queues.bunches import BUNCH
from mailbbgun.queues.lanes import LANES
from mailbbgun.queues.rabbitmq import RabbitMQ
from mailbbgun.queues.topology import WORK, work_queue
from mailbbgun.services import build
from mailbbgun.settings.load import load as load_settings
from mailbbgun.sweep.hints import NEARLY_EMPTY, PASS, TICK_GRACE
from mailbbgun.sweep.requeue import requeue
from tests.chaos.load import Load, addresses
from tests.chaos.round import EMBEDDED, REAL, LeftOut, Round
from tests.chaos.scenarios.table import scenario
from tests.flow.service import Service, until
from tests.servers import Cluster, PostgreSQL

RIPE = 3.5  # seconds: a quorum queue killed in its first second can be lost
PASSES = 30  # of bin/requeue-pending, without a worker
DISK = 160  # MB: two segments of WAL beside an empty cluster


@scenario(REAL)
def broker(round_: Round) -> None:
    """RabbitMQ killed, restarted, stopped for a while, silent for a while, or out of memory."""
    what, node = round_.dice.choice(["kill", "restart", "away", "silent", "alarm"]), round_.rabbitmq
    round_.say(what)
    with round_.under_load(seconds=8):
        time.sleep(RIPE)
        if what == "kill":
            node.kill9()
            node.start()
        elif what == "restart":
            node.restart()
        elif what == "away":
            node.stop()
            round_.pause(1, 5)
            node.start()
        elif what == "silent":
            node.pause()
            round_.pause(2, 12)
            node.resume()
        else:
            node.memory_alarm(True)
            try:
                round_.pause(1, 6)
            finally:
                node.memory_alarm(False)


@scenario(REAL)
def broker_and_worker(round_: Round) -> None:
    """kill -9 of RabbitMQ and of a worker at once."""
    with round_.under_load(seconds=8) as service:
        time.sleep(RIPE)
        round_.rabbitmq.kill9()
        service.kill("worker")
        service.start_worker()
        round_.rabbitmq.start()


@scenario(REAL)
def broker_wiped(round_: Round) -> None:
    """RabbitMQ killed, all it had deleted, and initdb.py run after it."""
    with round_.under_load(seconds=8) as service:
        time.sleep(RIPE)
        round_.rabbitmq.wipe()
        round_.pause()
        service.run("initdb.py")


@scenario(REAL)
def broker_leader(round_: Round) -> None:
    """A cluster of three RabbitMQ nodes; the queue's leader is killed, once or more: mail goes on while it is dead."""
    with Cluster() as cluster:
        vhost, queue = cluster.vhost(), work_queue("normal")
        here = replace(round_, settings=replace(round_.settings, QUEUE_URL=cluster.url(vhost)), rabbitmq=cluster)
        with here.service() as service, service:
            service.start_worker()
            load = Load(service)
            time.sleep(RIPE)
            with load.in_the_background(connections=2, pause=0.02):
                for number in range(round_.dice.randint(1, 3)):
                    leader = cluster.leader(vhost, queue)
                    leader.kill9()
                    killed, probes = time.monotonic(), iter(addresses(f"probe{number}x", 1000))
                    publishing = _opened_without_a_leader(service)
                    _seconds_of(service, load, next(probes))
                    round_.say(f"mail {time.monotonic() - killed:.1f} s after a kill,")
                    # Mail whose hint the API publishes arrives sooner than mail whose hint a worker
                    # must publish.
                    until(lambda: _seconds_of(service, load, next(probes)) < TICK_GRACE, 20, "a hint of the API")  # noqa: B023
                    round_.say(f"by a hint of the API {time.monotonic() - killed:.1f} s;")
                    assert cluster.leader(vhost, queue) is not leader
                    assert [error for error in map(_error_of, publishing) if error] == []
                    for one in publishing:
                        one.close()
                    leader.start()
                    round_.pause()
            here.end(service, load)
            round_.figures = here.figures
            assert (load.unavailable, load.failures, here.figures.unknown) == (0, 0, 0)


def _opened_without_a_leader(service: Service) -> list[Queue]:
    """Publish on connections opened in the first half second, while the queue has no leader.

    RabbitMQ 3.10 never recovers such connections.
    """
    queues = []
    for _ in range(10):
        queues.append(RabbitMQ(service.environment["MAILBBGUN_QUEUE_URL"], ()))
        _error_of(queues[-1])
        time.sleep(0.05)
    return queues


def _error_of(queue: Queue) -> QueueUnavailable | None:
    """Return the error of publishing a hint, which names no message."""
    try:
        queue.publish("normal", [new_id()])
    except QueueUnavailable as error:
        return error
    return None


def _seconds_of(service: Service, load: Load, address: str) -> float:
    """Send one message and return the seconds until it is in the sink."""
    began = time.monotonic()
    load.send(address)
    until(lambda: service.copies()[address], 15, f"mail to {address}")
    return time.monotonic() - began


@scenario(REAL)
def database(round_: Round) -> None:
    """PostgreSQL killed, restarted, or stopped for a while, once or more."""
    server = round_.postgresql
    with round_.under_load(seconds=8):
        for _ in range(round_.dice.randint(1, 3)):
            round_.pause(0.5, 2)
            what = round_.dice.choice(["kill", "restart", "away"])
            round_.say(what)
            server.kill9() if what == "kill" else server.stop()
            if what == "away":
                round_.pause(0.5, 6)
            server.start()


@scenario(REAL)
def connections_terminated(round_: Round) -> None:
    """Every connection to the database ended by the server, again and again."""
    name = round_.settings.DATABASE_URL.rpartition("/")[2]
    with round_.under_load(seconds=6):
        for _ in range(round_.dice.randint(3, 12)):
            round_.pause(0.1, 0.8)
            round_.postgresql.terminate(name)


@scenario(REAL)
def disk_full(round_: Round) -> None:
    """PostgreSQL on a small disk of its own that is full for a while. Needs root, to mount it."""
    with _small_disk() as disk, PostgreSQL(own=True, parent=disk) as server:
        on_it = replace(round_.settings, DATABASE_URL=server.url(server.create_database()))
        here = replace(round_, settings=on_it, postgresql=server)
        with here.under_load(seconds=8):
            round_.pause(1, 3)
            ballast = disk / "ballast"
            until_ = time.monotonic() + round_.dice.uniform(2, 5)
            while time.monotonic() < until_:  # what the server frees is taken as well
                with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
                    while file.write(bytes(4096)):
                        pass
                time.sleep(0.1)
            here.say(f"{ballast.stat().st_size >> 20} MB of ballast")
            ballast.unlink()
        round_.description, round_.figures = here.description, here.figures


@contextmanager
def _small_disk() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="mailbbgun-disk-"))
    folder.chmod(0o755)  # the server's user needs access
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}m,mode=755", "tmpfs", folder], capture_output=True, text=True
    )
    if done.returncode:
        folder.rmdir()
        raise LeftOut(f"no small disk can be mounted: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        folder.rmdir()


@scenario(EMBEDDED, REAL)
def receiver(round_: Round) -> None:
    """kill -9 of the server that takes the mail, away for a while, again and again."""
    with round_.under_load(seconds=6) as service:
        for _ in range(round_.dice.randint(1, 4)):
            round_.pause(0.2, 1)
            service.kill("sink")
            round_.pause(0.1, 2)
            service.start_sink()


@scenario(EMBEDDED, REAL)
def requeued(round_: Round) -> None:
    """bin/requeue-pending 30 times without a worker, some hints lost: the queue holds each message at most twice."""
    with round_.service() as service, service:
        load = Load(service, 10)
        load.send_all(addresses("u", count := round_.messages or round_.dice.randint(50, 1500)))
        services = build(load_settings(service.environment))
        try:
            until(lambda: service.unhinted() == 0, what="every hint on the queue")
            lost = purge(services.queue, round_.dice.choice([0, 0, count // 3, count]))
            left, again = depth(services.queue), 0
            round_.say(f"{lost} of {count} hints lost, {left} left at the most")
            for _ in range(PASSES):
                service.age(120)
                again += requeue(services, 60, dry_run=False)
            found, certain = depth(services.queue), left < min(count, NEARLY_EMPTY)
            assert again == (count if certain else 0), f"{again} hinted again of {count} messages"
            assert lost or not certain, "a healthy backlog"
            assert left + again <= found < left + most(again + 1), (
                f"{found} hints at the most for {count} messages, {left} before"
            )
        finally:
            services.close()
        service.start_worker()
        round_.end(service, load)


def depth(queue: Queue) -> int:
    """Return the most hints that may be ready on all lanes."""
    return sum(queue.depth().values())


def most(count: int) -> int:
    """Return the greatest depth of a lane that was given ``count`` hints, pass by pass.

    Bunches count as full.
    """
    return count + (count // PASS + 1) * BUNCH


def purge(queue: Queue, count: int) -> int:
    """Take ``count`` hints off the queue for good, as an accident would; return how many were
    taken.
    """
    consumer, done = queue.consumer(min(500, count or 1)), 0
    while done < count and (hints := consumer.take(min(500, count - done), 1.0)):
        consumer.settle(hints)
        done += len(hints)
    consumer.close()
    time.sleep(0.5)  # unacknowledged hints return to the queue a moment later
    return done


@scenario(REAL)
def junk(round_: Round) -> None:
    """Hints that are no hints, or name no message, put on the queue by somebody else."""
    dice = random.Random(round_.dice.random())
    with round_.under_load():
        connection = pika.BlockingConnection(pika.URLParameters(round_.settings.QUEUE_URL))
        channel = connection.channel()
        for _ in range(500):
            noise = dice.randbytes(dice.choice([0, 1, 16, 36, 300, 100_000]))
            nobodys = [
                str(UUID(int=dice.getrandbits(128))).encode() for _ in range(dice.choice([1, 2, BUNCH, BUNCH + 1]))
            ]
            channel.basic_publish(WORK, dice.choice(LANES), dice.choice([noise, b"\x80" * 36, b"\n".join(nobodys)]))
        connection.close()
