"""Damage to links between processes, by proxies: slow, cut, dead in one direction, silent."""

import time

from tests.chaos.proxy import BOTH, Proxy
from tests.chaos.round import EMBEDDED, REAL, Round
from tests.chaos.scenarios.table import scenario
from tests.servers.process import free_port

LINKS = ("api-database", "worker-database", "api-queue", "worker-queue", "smtp")


def drawn_link(round_: Round) -> str:
    """Draw one of the links that this configuration has."""
    link = round_.dice.choice(LINKS if round_.real else ("smtp",))
    round_.say(link)
    return link


#: What the commits of a link have in them. The API sends a message's statements together, without BEGIN and COMMIT.
COMMITS = {"api-database": b"INSERT INTO messages", "worker-database": b"COMMIT"}


@scenario(REAL)
def commit_reply_cut(round_: Round) -> None:
    """The reply to a commit is lost, of the API or of the worker: nobody knows whether it was committed."""
    link = round_.dice.choice([*COMMITS])
    times, skip = round_.dice.randint(1, 8), round_.dice.randint(0, 20)
    with round_.proxies(link) as (_, (proxy,)):
        proxy.cut_replies_to(COMMITS[link], times, skip)
        _until_cut(proxy, times)
        round_.say(f"{link}, {proxy.cuts} cut")


@scenario(EMBEDDED, REAL)
def dot_reply_cut(round_: Round) -> None:
    """The reply to the final dot is lost: the mail arrived, and nobody knows."""
    times = round_.dice.randint(1, 20)
    with round_.proxies("smtp") as (_, (proxy,)):
        proxy.cut_replies_to(b"\r\n.\r\n", times, round_.dice.randint(0, 20))
        _until_cut(proxy, times)
        round_.say(f"{proxy.cuts} cut")


@scenario(EMBEDDED, REAL)
def post_reply_cut(round_: Round) -> None:
    """The reply to POST is lost: the client asks again, and its Idempotency-Key brings the first answer."""
    times = round_.dice.randint(1, 60)
    with round_.service() as service, Proxy(service.port) as proxy:
        service.url = f"http://127.0.0.1:{proxy.port}"
        with round_.under_load(service):
            proxy.cut_replies_to(b"Idempotency-Key", times)
            _until_cut(proxy, times)
            proxy.heal()
            round_.say(f"{proxy.cuts} cut")


def _until_cut(proxy: Proxy, times: int, seconds: float = 6.0) -> None:
    end = time.monotonic() + seconds
    while proxy.cuts < times and time.monotonic() < end:
        time.sleep(0.05)


@scenario(EMBEDDED, REAL)
def black_hole(round_: Round) -> None:
    """Nothing arrives on a link, both ways or one, for longer than a lease or not; then it goes on, or is reset."""
    link, directions = drawn_link(round_), round_.dice.choice([BOTH, BOTH, ("out",), ("back",)])
    seconds, reset = round_.dice.uniform(1, 10), round_.dice.random() < 0.5
    other = link.startswith("worker") and round_.dice.random() < 0.5
    round_.say(f"{seconds:.1f} s {'+'.join(directions)}", "reset" * reset, "another worker" * other)
    with round_.proxies(link) as (service, (proxy,)):
        if other:  # the other process has its own link to the same server
            service.only["worker"], through = {}, service.only["worker"]
            service.start_worker("other")
            service.only["worker"] = through
        round_.pause()
        proxy.black_hole(*directions)
        time.sleep(seconds)
        if reset:
            proxy.cut()


@scenario(EMBEDDED, REAL)
def resets(round_: Round) -> None:
    """Connections of a link reset at random moments, and after so many bytes."""
    with round_.proxies(drawn_link(round_)) as (_, (proxy,)):
        proxy.reset_at = round_.dice.choice([0, round_.dice.randint(200, 50_000)])
        round_.say(f"after {proxy.reset_at} bytes" if proxy.reset_at else "at random")
        for _ in range(round_.dice.randint(2, 8)):
            round_.pause(0.1, 0.8)
            proxy.cut()


@scenario(EMBEDDED, REAL)
def unreachable(round_: Round) -> None:
    """A server that is moved away: its connections are reset and new ones refused, until it is back."""
    with round_.proxies(drawn_link(round_)) as (_, (proxy,)):
        round_.pause()
        proxy.upstream, before = free_port(), proxy.upstream
        proxy.cut()
        round_.pause(0.5, 6)
        proxy.upstream = before


@scenario(EMBEDDED, REAL)
def bad_line(round_: Round) -> None:
    """Latency, jitter and little bandwidth on one link or on all."""
    links = LINKS if round_.real and round_.dice.random() < 0.3 else (drawn_link(round_),)
    with round_.proxies(*links) as (_, proxies):
        for proxy in proxies:
            proxy.latency, proxy.jitter = round_.dice.choice([0.002, 0.01, 0.05]), round_.dice.choice([0.0, 0.01, 0.1])
            proxy.rate = round_.dice.choice([0, 300_000, 3_000_000])
        round_.say(len(proxies), "proxies")
        round_.pause(4, 8)
