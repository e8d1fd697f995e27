"""Limits of requests through the front door.

API processes answer many connections at once. They count shares in memory, or together in Redis.
"""

import re
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from mailbbgun.app import create_app
from mailbbgun.assembly import OPEN
from mailbbgun.http.blueprint import NEEDS
from mailbbgun.http.gate import Standing
from tests.flow.service import until
from tests.servers.process import free_port
from tests.tenants.conftest import HELLO, Locked, code, opened
from tests.waiting import PATIENCE, wait_until

PROCESSES = 4


@pytest.fixture(scope="module", params=["memory", "redis"])
def limited(request, postgresql, tmp_path_factory):
    """An API of four processes, with one proxy in front of it."""
    settings = {"DATABASE_URL": postgresql.url(postgresql.create_database()), "PROXIES": "1"}
    if request.param == "redis":
        settings["REDIS_URL"] = request.getfixturevalue("redis").url()
    with opened(tmp_path_factory.mktemp("limited"), PROCESSES, **settings) as door:
        yield door


@pytest.fixture
def exact(limited):
    """Whether exactly the limit is allowed.

    In memory each process has a share, which may not be used up.
    """
    return bool(limited.services.settings.REDIS_URL)


def hammer(
    locked: Locked,
    keys: list[str],
    enough: int = 300,
    *,
    method: str = "GET",
    paths: tuple[str, ...] = ("/messages",),
    **headers: str,
):
    """Send requests as fast as possible until there are ``enough`` answers.

    Return the number of each status.

    Twelve clients change their connections, and so the processes that answer them.
    """
    more = {"timeout": PATIENCE} | ({"json": HELLO} if method == "POST" else {})
    codes, over = list[int](), threading.Event()  # to add to a Counter would take a lock

    def client(number: int) -> None:
        n = 0
        while not over.is_set():
            with requests.Session() as fresh:
                for _ in range(5):
                    n += 1
                    path, key = paths[n % len(paths)], keys[(number + n) % len(keys)]
                    sent = {"Authorization": f"Bearer {key}", **headers}
                    answer = fresh.request(method, locked.url + path, headers=sent, **more)
                    codes.append(answer.status_code)

    with ThreadPoolExecutor(12) as clients:
        working = clients.map(client, range(12))
        try:
            wait_until(lambda: len(codes) >= enough, "so many answers")
        finally:
            over.set()
        list(working)
    return Counter(codes)


def allowed(answers: Counter, limit: int, exact: bool) -> None:
    done = answers[200] + answers[201]
    assert answers[429] > 0, answers
    assert set(answers) <= {200, 201, 404, 429}, answers
    assert done == limit if exact else limit / 2 <= done <= limit, answers


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_all_processes_together_serve_a_key_as_often_as_its_limit_allows(limited, exact, method):
    key = limited.key(limited.tenant(f"key {method}"), max_requests_per_minute=60)["key"]
    allowed(hammer(limited, [key], method=method), 60, exact)


def test_all_keys_of_a_tenant_share_its_limit(limited, exact):
    tenant = limited.tenant("many keys", max_requests_per_minute=40)
    keys = [limited.key(tenant, max_requests_per_minute=30)["key"] for _ in range(10)]
    allowed(hammer(limited, keys), 40, exact)
    assert code(limited.ask("GET", "/messages", limited.key(tenant)["key"])) == (429, "rate_limited")
    assert limited.ask("GET", "/messages", limited.key(limited.tenant("another"))["key"]).status_code == 200


def test_test_keys_use_up_no_live_request_and_share_a_limit_of_their_own(limited, exact):
    tenant = limited.tenant("test beside live", max_requests_per_minute=40)
    live, *tests = (limited.key(tenant, kind=kind)["key"] for kind in ("live", "test", "test"))
    allowed(hammer(limited, tests), 40, exact)
    assert code(limited.ask("GET", "/messages", tests[0])) == (429, "rate_limited")
    answer = limited.ask("GET", "/messages", live)
    assert (answer.status_code, answer.headers["RateLimit-Limit"]) == (200, "40")
    allowed(hammer(limited, [live]), 39 if exact else 40, exact)  # one request was made above


def test_no_spelling_of_an_address_gets_round_a_limit(limited, exact):
    key = limited.key(limited.tenant("spelling"), max_requests_per_minute=40)["key"]
    paths = (
        "/messages",
        "/%6dessages",
        "/messages?limit=1",
        "/messages?",
        "/Messages",
        "//messages",
        "/messages/",
        "/messages#x",
        "/./messages",
    )
    allowed(hammer(limited, [key], paths=paths), 40, exact)


def test_a_client_that_claims_to_be_behind_more_proxies_is_limited_all_the_same(limited, exact):
    key = limited.key(limited.tenant("spoofed"), max_requests_per_minute=40)["key"]
    headers = {
        "X-Forwarded-For": "198.51.100.7, 198.51.100.8",
        "Forwarded": "for=192.0.2.60",
        "X-Real-IP": "192.0.2.61",
    }
    allowed(hammer(limited, [key], **headers), 40, exact)


def test_every_answer_says_how_many_requests_are_left(limited, exact):
    tenant = limited.tenant("headers", max_requests_per_minute=400)
    key = limited.key(tenant, max_requests_per_minute=PROCESSES * 2)["key"]
    refused = None
    seen = []
    for number in range(40):
        answer = limited.ask("POST" if number % 2 else "GET", "/messages", key, json=HELLO if number % 2 else None)
        assert answer.headers["RateLimit-Limit"] == str(PROCESSES * 2)
        assert 0 < int(answer.headers["RateLimit-Reset"]) <= 60
        seen.append(int(answer.headers["RateLimit-Remaining"]))
        if answer.status_code == 429:
            refused = answer
            break
        assert "Retry-After" not in answer.headers
    assert refused is not None
    assert seen == ([7, 6, 5, 4, 3, 2, 1, 0, 0] if exact else seen)
    assert seen[-1] == 0
    assert code(refused) == (429, "rate_limited")
    assert refused.headers["Retry-After"] == refused.headers["RateLimit-Reset"]
    assert refused.headers["Content-Type"] == "application/json"
    assert "RateLimit-Limit" not in limited.ask("GET", "/messages", limited.admin).headers


def test_routes_that_need_no_key_are_never_limited(limited):
    key = limited.key(limited.tenant("open"), max_requests_per_minute=1)["key"]
    until(lambda: limited.ask("GET", "/messages", key).status_code == 429)
    for path in ("/health", "/"):
        assert {limited.ask("GET", path, key).status_code for _ in range(100)} == {200}
        assert "RateLimit-Limit" not in limited.ask("GET", path, key).headers


def in_every_process(locked: Locked, key: str, status: int) -> None:
    """Wait for 40 answers with this status in a row, on as many connections."""

    def answered() -> int:
        with requests.Session() as fresh:
            return fresh.get(
                f"{locked.url}/messages", headers={"Authorization": f"Bearer {key}"}, timeout=PATIENCE
            ).status_code

    wait_until(lambda: all(answered() == status for _ in range(40)), f"an answer of {status} by every process")


def test_a_changed_limit_takes_effect_soon(limited):
    tenant = limited.tenant("changes")
    key = limited.key(tenant)["key"]
    assert {limited.ask("GET", "/messages", key).status_code for _ in range(20)} == {200}
    limited.ask("PATCH", f"/tenants/{tenant}", limited.admin, json={"max_requests_per_minute": PROCESSES})
    in_every_process(limited, key, 429)
    answers = hammer(limited, [key], 100)  # on a slow machine it takes over a minute, which lets a few through
    assert set(answers) <= {200, 429}
    assert answers[429] > 10 * answers[200]
    limited.ask("PATCH", f"/tenants/{tenant}", limited.admin, json={"max_requests_per_minute": None})
    in_every_process(limited, key, 200)
    assert set(hammer(limited, [key], 100)) == {200}


def test_the_address_of_a_client_is_the_one_that_the_proxy_adds_and_not_one_that_it_sends_itself(limited):
    key = limited.key(limited.tenant("networks"), networks=["192.0.2.0/24"])["key"]

    def status(**headers: str) -> int:
        return limited.ask("GET", "/messages", key, headers=headers).status_code

    assert status(**{"X-Forwarded-For": "192.0.2.7"}) == 200
    assert status(**{"X-Forwarded-For": "203.0.113.1, 192.0.2.7"}) == 200
    assert status(**{"X-Forwarded-For": "192.0.2.7, 203.0.113.1"}) == 403
    for name in ("Forwarded", "X-Real-IP", "X-Client-IP", "True-Client-IP"):
        assert status(**{name: "for=192.0.2.7" if name == "Forwarded" else "192.0.2.7"}) == 403
    sent = limited.ask(
        "POST",
        "/messages",
        limited.admin,
        json=HELLO,
        headers={"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"},
    )
    assert sent.headers["Location"].startswith(limited.url.replace("http:", "https:"))


def test_keys_without_a_limit_of_their_own_have_that_of_the_setting(tmp_path):
    with opened(tmp_path, 1, RATE_LIMIT_PER_MINUTE="5", AUTH_REQUIRED="false") as door:
        keyless = [door.ask("GET", "/messages").status_code for _ in range(7)]
        assert keyless == [200] * 5 + [429] * 2
        answer = door.ask("GET", "/messages", door.admin)
        assert answer.status_code == 200
        assert (answer.headers["RateLimit-Limit"], answer.headers["RateLimit-Remaining"]) == ("5", "4")
        own = door.key(door.tenant("often"), max_requests_per_minute=9)["key"]
        assert door.ask("GET", "/messages", own).headers["RateLimit-Limit"] == "9"


@pytest.mark.long
def test_while_redis_is_away_mail_is_accepted_and_processes_count_their_shares(postgresql, breakable_redis, tmp_path):
    settings = {"DATABASE_URL": postgresql.url(postgresql.create_database()), "REDIS_URL": breakable_redis.url()}
    with opened(tmp_path, 2, **settings) as door:
        tenant = door.tenant("away", max_requests_per_minute=1_000_000)
        free, one = (door.key(tenant, **wish)["key"] for wish in ({}, {"max_requests_per_minute": 40}))
        assert door.ask("POST", "/messages", free, json=HELLO).status_code == 201
        breakable_redis.pause()
        try:
            paused = [_post(door, free) for _ in range(60)]
            allowed(hammer(door, [one], method="POST"), 40, exact=False)
        finally:
            breakable_redis.resume()
        assert set(paused) == {201}
        breakable_redis.kill9()
        try:
            assert set(hammer(door, [free], 100, method="POST")) == {201}
        finally:
            breakable_redis.start()
        # Logged now and then, not with each of the four hundred requests.
        assert 0 < (door.var / "api.out").read_text().count("rates_counted_in_memory") < 100

        def counted_together() -> bool:
            fresh = door.key(tenant, max_requests_per_minute=40)["key"]
            return hammer(door, [fresh])[200] == 40

        wait_until(counted_together, "limits that are counted in Redis again")


def _post(door: Locked, key: str) -> int:
    with requests.Session() as fresh:
        return fresh.post(
            f"{door.url}/messages", json=HELLO, headers={"Authorization": f"Bearer {key}"}, timeout=PATIENCE
        ).status_code


def test_the_api_starts_and_accepts_mail_without_its_redis(tmp_path):
    with opened(tmp_path, 1, REDIS_URL=f"redis://127.0.0.1:{free_port()}") as door:
        key = door.key(door.tenant("alone"), max_requests_per_minute=3)["key"]
        assert [door.ask("POST", "/messages", key, json=HELLO).status_code for _ in range(4)] == [201, 201, 201, 429]


def test_every_route_that_needs_a_key_documents_the_answer_429(embedded_settings):
    app = create_app(embedded_settings)
    spec = app.test_client().get("/openapi.json").get_json()
    asked = 0
    for rule in app.url_map.iter_rules():
        shown = spec["paths"].get(re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for method in rule.methods - {"HEAD", "OPTIONS"} if shown else ():
            responses = shown[method.lower()]["responses"]
            needs_key = hasattr(app.view_functions[rule.endpoint], NEEDS)
            assert needs_key == (rule.endpoint not in OPEN)
            # Without a key the limit is that of an address.
            own_limit = not needs_key and rule.endpoint.partition(".")[0] in {"suppressions", "tracking", "licences"}
            assert ("429" in responses) == (needs_key or own_limit), rule
            asked += needs_key
            if needs_key:
                assert set(responses["429"]["headers"]) == {
                    "Retry-After",
                    "RateLimit-Limit",
                    "RateLimit-Remaining",
                    "RateLimit-Reset",
                }
                assert responses["429"]["content"]["application/json"]["schema"]["$ref"].endswith("/Error")
    assert asked > 10


@pytest.mark.parametrize(("reset", "seconds"), [(0.0, 1), (0.2, 1), (1.0, 1), (1.1, 2), (60.0, 60)])
def test_a_reset_is_given_in_whole_seconds_and_never_too_early(reset, seconds):
    assert Standing(False, 5, 0, reset).headers == {
        "RateLimit-Limit": "5",
        "RateLimit-Remaining": "0",
        "RateLimit-Reset": str(seconds),
    }
