"""Moving windows of requests, in memory and in Redis."""

import random
import threading

import pytest

from mailbbgun.core.errors import ConfigurationError, RedisUnavailable, explained
from mailbbgun.core.ids import new_id
from mailbbgun.core.net import network_of
from mailbbgun.limits.redis_windows import RedisWindows
from mailbbgun.limits.windows import MOST_NAMES, WINDOW, MemoryWindows
from tests.servers.process import free_port
from tests.waiting import at_least, bounded


class Hands:
    """A clock that the test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["memory", "redis"])
def windows(request):
    if request.param == "memory":
        yield MemoryWindows()
    else:
        made = RedisWindows(request.getfixturevalue("redis").url())
        yield made
        made.close()


def test_as_many_requests_as_the_limit_are_allowed_and_told_what_is_left(windows):
    name = str(new_id())
    standings = [windows.hit(name, 3) for _ in range(5)]
    assert [(one.allowed, one.remaining) for one in standings] == [
        (True, 2),
        (True, 1),
        (True, 0),
        (False, 0),
        (False, 0),
    ]
    assert all(WINDOW - 5 < one.reset <= WINDOW for one in standings)
    assert windows.hit(str(new_id()), 3).allowed


def test_a_changed_limit_takes_effect_with_the_next_request(windows):
    name = str(new_id())
    assert [windows.hit(name, limit).allowed for limit in (2, 2, 2, 4, 4, 4, 1)] == [
        True,
        True,
        False,
        True,
        True,
        False,
        False,
    ]


def test_many_threads_at_once_get_exactly_the_limit(windows):
    name, allowed = str(new_id()), []

    def ask():
        for _ in range(25):
            allowed.append(windows.hit(name, 60).allowed)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(allowed), sum(allowed)) == (200, 60)


@pytest.mark.parametrize("start", [0.0, 59.9, 30.0, 59.999, 119.95])
def test_a_burst_on_both_sides_of_a_minutes_edge_is_one_burst(start):
    clock = Hands()
    windows = MemoryWindows(clock)
    allowed = 0
    for step in range(100):  # over 0.2 seconds
        clock.now = 6000.0 + start + step * 0.002
        allowed += windows.hit("k", 60).allowed
    assert allowed == 60


@pytest.mark.parametrize("seed", range(5))
def test_no_sixty_seconds_have_more_requests_than_the_limit(seed):
    dice, clock, moments = random.Random(seed), Hands(), []
    windows = MemoryWindows(clock)
    for _ in range(3000):
        clock.now += dice.choice([0.0, 0.01, 0.5, 7.0]) * dice.random()
        if windows.hit("k", 20).allowed:
            moments.append(clock.now)
    assert len(moments) > 200
    assert all(later - first >= WINDOW for first, later in zip(moments, moments[20:], strict=False))


def test_one_more_request_is_allowed_after_the_reset():
    clock = Hands()
    windows = MemoryWindows(clock)
    for _ in range(3):
        windows.hit("k", 3)
        clock.now += 5
    refused = windows.hit("k", 3)
    assert (refused.allowed, refused.reset, refused.seconds) == (False, WINDOW - 15, WINDOW - 15)
    clock.now += refused.reset - 0.001
    assert not windows.hit("k", 3).allowed
    clock.now += 0.001
    assert [windows.hit("k", 3).allowed for _ in range(2)] == [True, False]


def test_idle_names_are_forgotten_and_the_number_of_names_is_bounded():
    clock = Hands()
    windows = MemoryWindows(clock)
    for number in range(3 * MOST_NAMES):
        windows.hit(str(number), 1)
    assert len(windows) == MOST_NAMES
    assert not windows.look(str(3 * MOST_NAMES - 1), 1).allowed
    clock.now += WINDOW + 1
    for _ in range(MOST_NAMES):
        windows.hit("k", 1)
    assert len(windows) == 1


def test_looking_counts_nothing():
    windows = MemoryWindows(Hands())
    assert all(windows.look("k", 1).allowed for _ in range(3))
    assert len(windows) == 0


@pytest.mark.parametrize(("address", "network"), [
    ("192.0.2.1", "192.0.2.1"), ("192.0.2.2", "192.0.2.2"), ("::ffff:192.0.2.1", "192.0.2.1"),
    ("2001:db8::1", "2001:db8::/64"), ("2001:db8:0:0:ffff::2", "2001:db8::/64"),
    ("2001:db8:0:1::1", "2001:db8:0:1::/64"), ("fe80::1%eth0", "fe80::/64"),
    (None, "unknown"), ("", "unknown"), ("unknown", "unknown"), ("192.0.2.1:80", "unknown"), ("_hidden", "unknown"),
])  # fmt: skip
def test_a_client_is_counted_by_its_ipv4_address_or_its_ipv6_network(address, network):
    assert network_of(address) == network


@pytest.mark.parametrize(
    "url",
    [
        "redis://:secret@host:port",
        "redis://:secret@host/zero",
        "redis://:secret@host/?colour=red",
        "redis://:secret@[host/0",
    ],
)
def test_the_error_about_a_wrong_url_does_not_show_its_password(url):
    with pytest.raises(ConfigurationError, match=r"^REDIS_URL: ") as caught:
        RedisWindows(url)
    assert "secret" not in explained(caught.value)


def test_a_redis_that_is_away_or_silent_is_an_error_after_a_short_wait(breakable_redis):
    with pytest.raises(RedisUnavailable):
        RedisWindows(f"redis://127.0.0.1:{free_port()}").hit("k", 1)
    windows = RedisWindows(breakable_redis.url())
    assert windows.hit(str(new_id()), 1).allowed
    breakable_redis.pause()
    try:
        with bounded("a hit at a silent Redis"), at_least(0.2), pytest.raises(RedisUnavailable):
            windows.hit("k", 1)
    finally:
        breakable_redis.resume()
    assert windows.hit(str(new_id()), 1).allowed
    windows.close()


def test_redis_forgets_requests_after_a_minute(redis):
    name, windows = str(new_id()), RedisWindows(redis.url())
    windows.hit(name, 5)
    with redis.client() as client:
        assert 0 < client.ttl(f"mailbbgun:rate:{name}") <= WINDOW
    windows.close()
