"""``/config``: what may be changed while the service runs, by whom, and how soon every process follows."""

import re
from collections import Counter
from collections.abc import Iterator

import pytest

from mailbbgun.core.caller import Scope
from mailbbgun.runtime.live import LIVE
from mailbbgun.settings.settings import Settings
from tests.flow.service import ROOT, until
from tests.tenants.conftest import HELLO, Locked, code, locked

__all__ = ["locked"]  # the fixture

TWO = {"to": ["ann@example.com", "bob@example.com"], "from": "shop@example.com", "subject": "Hello", "text": "Hi"}
#: Requests that reach both processes, each on a connection of its own.
MANY = 24


@pytest.fixture
def door(locked: Locked) -> Iterator[Locked]:
    """An API whose settings are the file's again afterwards."""
    yield locked
    # One of the two processes may still have the limit of requests that a test has just taken back.
    until(lambda: put(locked, dict.fromkeys(LIVE)).status_code == 200, what="the file's settings")


def put(door: Locked, changes: dict, key: str | None = None, **headers: str):
    return door.ask("PUT", "/config", key or door.admin, json=changes, headers=headers)


def setting(door: Locked, name: str) -> dict:
    return door.ask("GET", "/config", door.admin).json()["settings"][name]


def answers(door: Locked, method: str, path: str, **options) -> Counter:
    """Return how often each status came from so many connections: the kernel gives them to both processes."""
    close = {"headers": {"Connection": "close"}}
    return Counter(door.ask(method, path, door.admin, **close, **options).status_code for _ in range(MANY))


def test_every_setting_of_the_list_is_shown_with_where_its_value_comes_from(door: Locked) -> None:
    answer = door.ask("GET", "/config", door.admin)
    shown = answer.json()
    assert set(shown["settings"]) == set(LIVE)
    assert answer.headers["ETag"] == f'"{shown["version"]}"'
    its = shown["settings"]["MAX_RECIPIENTS"]
    assert (its["value"], its["file_value"], its["changed_at"], its["changed_by"]) == (100, 100, None, None)
    assert (its["least"], its["most"]) == (1, 1000)
    assert "recipients" in its["description"]
    assert shown["settings"]["SMTP_TIMEOUTS"]["value"]["connect"] == 30.0
    secrets = [name for name in LIVE if name.endswith(("_URL", "_KEY", "_KEYS", "_FILE", "_CERT"))]
    assert not secrets


def test_a_change_is_followed_by_every_process_audited_and_taken_back(door: Locked) -> None:
    assert answers(door, "POST", "/messages", json=TWO) == {201: MANY}
    changed = put(door, {"MAX_RECIPIENTS": 1})
    assert changed.status_code == 200, changed.text
    assert changed.json()["settings"]["MAX_RECIPIENTS"]["value"] == 1
    until(lambda: answers(door, "POST", "/messages", json=TWO) == {400: MANY}, what="both processes follow")
    its = setting(door, "MAX_RECIPIENTS")
    assert (its["value"], its["file_value"]) == (1, 100)
    assert its["changed_at"]
    assert its["changed_by"]
    newest = door.ask("GET", "/audit", door.admin).json()["audit"][0]
    assert newest["action"] == "configuration.changed"
    assert newest["data"] == {"name": "MAX_RECIPIENTS", "from": 100, "to": 1, "reset": False}
    assert newest["key_id"] == its["changed_by"]

    assert put(door, {"MAX_RECIPIENTS": None}).json()["settings"]["MAX_RECIPIENTS"]["changed_at"] is None
    until(lambda: answers(door, "POST", "/messages", json=TWO) == {201: MANY}, what="both processes follow again")
    newest = door.ask("GET", "/audit", door.admin).json()["audit"][0]
    assert newest["data"] == {"name": "MAX_RECIPIENTS", "from": 1, "to": 100, "reset": True}


def test_what_has_a_copy_of_a_setting_follows_too(door: Locked) -> None:
    tenant = door.tenant("limited")
    key, free = (door.key(tenant, scopes=list(Scope), **its)["key"] for its in ({}, {"max_requests_per_minute": 999}))
    assert put(door, {"RATE_LIMIT_PER_MINUTE": 2}).status_code == 200

    def refused() -> bool:
        return door.ask("POST", "/messages", key, json=HELLO).status_code == 429

    until(refused, what="the limit of keys without one of their own")
    assert put(door, {"RATE_LIMIT_PER_MINUTE": None, "UNAUTHORIZED_PER_MINUTE": 2}, free).status_code == 200
    until(lambda: not refused(), what="no limit again")
    until(lambda: door.ask("GET", "/messages", "mbg_no").status_code == 429, what="the limit of addresses")


@pytest.mark.parametrize(
    ("changes", "name", "told"),
    [
        ({"MAX_RECIPIENTS": 0}, "MAX_RECIPIENTS", "0 is less than 1."),
        ({"MAX_RECIPIENTS": "many"}, "MAX_RECIPIENTS", "'many' is not a number."),
        ({"MAX_RECIPIENTS": 1.5}, "MAX_RECIPIENTS", "1.5 is not a whole number."),
        ({"MAX_RECIPIENTS": [[1]]}, "MAX_RECIPIENTS", "[[1]] is not a number."),
        ({"LOG_LEVEL": "LOUD"}, "LOG_LEVEL", "'LOUD' is not one of DEBUG, INFO, WARNING, ERROR."),
        ({"SMTP_TIMEOUTS": {"dot": 0}}, "SMTP_TIMEOUTS", "Dot: 0.0 is less than 0.1."),
        ({"SMTP_TIMEOUTS": "x" * 5000}, "SMTP_TIMEOUTS", "Has more than 4096 bytes."),
        ({"SMTPD_TLS_PORT": 4650}, "SMTPD_TLS_PORT", "Needs a certificate: set SMTPD_TLS_CERT."),
        ({"SMTPD_PORT": 4650, "MX_LISTEN_PORT": 4650}, "MX_LISTEN_PORT", "Is the same port as SMTPD_PORT."),
        ({"MAX_MESSAGE_SIZE": 999_999_999}, "SMTPD_BUFFER_SIZE", "134217728 is less than MAX_MESSAGE_SIZE, 999999999"),
        ({"DATABASE_URL": "sqlite:///x"}, "DATABASE_URL", "It does not change while programs run"),
        ({"max_recipients": 5}, "max_recipients", "Unknown"),
        ({"NOTHING": 5}, "NOTHING", "Unknown"),
    ],
)
def test_a_wrong_value_is_told_with_its_name_and_nothing_changes(door: Locked, changes, name, told) -> None:
    before = door.ask("GET", "/config", door.admin).json()
    answer = put(door, {"MAX_SUBJECT_SIZE": 10} | changes)
    assert code(answer) == (400, "validation_error")
    (text,) = answer.json()["error"]["fields"][name]
    assert text.startswith(told), text
    assert door.ask("GET", "/config", door.admin).json() == before


def test_who_read_an_older_version_does_not_undo_a_change(door: Locked) -> None:
    read = door.ask("GET", "/config", door.admin).headers["ETag"]
    changed = put(door, {"MAX_RECIPIENTS": 7}, **{"If-Match": read})
    assert changed.status_code == 200
    assert changed.headers["ETag"] != read
    assert code(put(door, {"MAX_RECIPIENTS": 8}, **{"If-Match": read})) == (412, "precondition_failed")
    assert setting(door, "MAX_RECIPIENTS")["value"] == 7
    assert put(door, {"MAX_RECIPIENTS": 7}).headers["ETag"] == changed.headers["ETag"]  # nothing was changed
    assert code(put(door, {"MAX_RECIPIENTS": 8}, **{"If-Match": "seven"})) == (400, "validation_error")


def test_only_an_administrator_of_the_whole_service_may(door: Locked) -> None:
    every = [scope for scope in Scope if scope is not Scope.ADMIN]
    key = door.key(door.tenant("of its own"), scopes=every)["key"]
    assert code(door.ask("GET", "/config", key)) == code(put(door, {}, key)) == (403, "forbidden")
    confined = door.key(door.tenant("confined", max_messages_per_day=5), scopes=list(Scope), max_requests_per_minute=99)
    assert door.ask("GET", "/config", confined["key"]).status_code == 200
    assert code(put(door, {"MAX_RECIPIENTS": 9}, confined["key"])) == (403, "forbidden")
    assert code(door.ask("POST", "/restart", confined["key"], json={"of": "smtpd"})) == (403, "forbidden")


def test_every_live_setting_is_a_setting() -> None:
    assert len(set(LIVE)) == len(LIVE)
    assert set(LIVE) <= set(Settings.__dataclass_fields__)


def test_the_manual_names_every_live_setting() -> None:
    page = (ROOT / "docs/howto/runtime-configuration.rst").read_text()
    assert sorted(re.findall(r":setting:`(\w+)`", page.partition("What can be changed")[2])) == sorted(LIVE)
