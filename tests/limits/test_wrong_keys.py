"""Limits of requests without a valid key, by the client's address, and the log lines about them."""

from collections import Counter

import pytest
import requests

from mailbbgun.http.refusals import MOST_OF_ONE
from tests.tenants.conftest import HELLO, code, opened
from tests.waiting import PATIENCE


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """An API of one process without a proxy.

    An address may send thirty requests a minute without a valid key.
    """
    with opened(tmp_path_factory.mktemp("guarded"), 1, UNAUTHORIZED_PER_MINUTE="30") as door:
        yield door


def test_without_a_proxy_no_header_changes_the_address_of_a_client(guarded):
    key = guarded.key(guarded.tenant("near"), networks=["192.0.2.0/24"])["key"]
    for headers in (
        {"X-Forwarded-For": "192.0.2.7"},
        {"X-Forwarded-For": "192.0.2.7, 192.0.2.7"},
        {"Forwarded": "for=192.0.2.7"},
    ):
        assert code(guarded.ask("GET", "/messages", key, headers=headers)) == (403, "forbidden")
    sent = guarded.ask(
        "POST", "/messages", guarded.admin, json=HELLO, headers={"X-Forwarded-Proto": "https", "X-Forwarded-Ssl": "on"}
    )
    assert sent.headers["Location"].startswith(guarded.url)


def test_guesses_of_keys_are_limited_and_a_client_with_a_key_is_served_all_the_same(guarded):
    good = guarded.key(guarded.tenant("good"))
    unseen = guarded.key(guarded.tenant("unseen"))["key"]
    assert guarded.ask("GET", "/messages", good["key"]).status_code == 200
    wrong = [None, "nonsense", good["key"][:-1] + "-", f"mbg_{'x' * 12}_{'y' * 43}"]
    answers = [
        guarded.ask("POST" if n % 2 else "GET", "/messages", wrong[n // 2 % 4], json=HELLO if n % 2 else None)
        for n in range(60)
    ]
    statuses = [answer.status_code for answer in answers]
    assert statuses == [401] * 30 + [429] * 30
    assert code(answers[-1]) == (429, "rate_limited")
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 60
    assert (answers[-1].headers["RateLimit-Limit"], answers[-1].headers["RateLimit-Remaining"]) == ("30", "0")
    # A valid key is served whatever others did from its client's address, even if it was never used
    # before.
    assert {guarded.ask("POST", "/messages", good["key"], json=HELLO).status_code for _ in range(100)} == {201}
    assert guarded.ask("GET", "/messages", unseen).status_code == 200
    assert guarded.ask("GET", "/health").status_code == 200
    lines = (guarded.var / "api.out").read_text().splitlines()
    (locked,) = [line for line in lines if "address_locked" in line]
    assert "client=127.0.0.1 count=30" in locked
    refused = [line for line in lines if "request_refused" in line]
    assert 0 < len([line for line in refused if "status=401 code=unauthorized" in line]) <= MOST_OF_ONE
    assert 0 < len([line for line in refused if "status=429 code=rate_limited" in line]) <= MOST_OF_ONE
    assert not [line for line in lines if good["key"] in line or good["key"].rpartition("_")[2] in line]


def test_a_refusal_leaves_a_log_line_that_names_client_request_and_key(guarded):
    tenant = guarded.tenant("refused", max_messages_per_day=0)
    key = guarded.key(tenant)
    for method, path, more in (("GET", "/smtp-accounts?x=forged%20line", {}), ("POST", "/messages", {"json": HELLO})):
        assert guarded.ask(method, path, key["key"], **more).status_code in (403, 429)
    whose = f"tenant_id={tenant} key_id={key['id']}"
    log = (guarded.var / "api.out").read_text()
    assert f"client=127.0.0.1 method=GET path=/smtp-accounts status=403 code=forbidden {whose}" in log
    assert f"client=127.0.0.1 method=POST path=/messages status=429 code=quota_exceeded {whose}" in log
    elsewhere = guarded.key(tenant, networks=["192.0.2.0/24"])
    assert guarded.ask("GET", "/messages", elsewhere["key"]).status_code == 403
    assert f"key_id={elsewhere['id']}" in (guarded.var / "api.out").read_text()


def test_requests_without_a_valid_key_are_counted_by_ipv4_address_and_by_ipv6_network(postgresql, tmp_path):
    settings = {
        "DATABASE_URL": postgresql.url(postgresql.create_database()),
        "PROXIES": "1",
        "UNAUTHORIZED_PER_MINUTE": "20",
    }

    def refused(door, addresses) -> Counter:
        answers = Counter()
        for n in range(100):  # each on a connection of its own, so that both processes get some
            said = {
                "X-Forwarded-For": f"203.0.113.{n}, {addresses[n % len(addresses)]}",
                "Authorization": "Bearer guess",
            }
            answers[requests.get(f"{door.url}/messages", headers=said, timeout=PATIENCE).status_code] += 1
        return answers

    with opened(tmp_path, 2, **settings) as door:
        assert 10 <= refused(door, [f"2001:db8::{n:x}:1" for n in range(100)])[401] <= 20
        assert 10 <= refused(door, ["198.51.100.1"])[401] <= 20
        assert refused(door, [f"2001:db8:0:{n:x}::1" for n in range(1, 101)]) == {401: 100}
