"""How accounts are added and changed: defaults, presets and the errors of wrong values."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
import requests

from mailbbgun.smtp_accounts.presets import PRESETS
from tests.smtp.authority import Authority
from tests.smtp_accounts.conftest import PASSWORD, Tenant, settings_of, wrong
from tests.tenants.conftest import code
from tests.waiting import PATIENCE


def test_an_account_is_set_up_shown_listed_changed_and_deleted(tenant, provider):
    made = tenant.ask("POST", "", json=settings_of(provider))
    account = made.json()
    assert made.status_code == 201
    assert made.headers["Location"].endswith(f"/smtp-accounts/{account['id']}")
    usual = {
        "priority": 10,
        "weight": 1,
        "max_connections": 5,
        "max_per_day": None,
        "recipient_domains": [],
        "enabled": True,
        "preset": None,
    }
    usual |= {"envelope_from": None, "max_recipients_per_message": None}
    assert (
        account.items() >= (usual | {"security_protocol": "STARTTLS", "is_default": True, "has_password": True}).items()
    )
    shown = tenant.shown(account)
    assert {name: value for name, value in shown.items() if name != "health"} == account
    listed = tenant.ask("GET", "").json()
    assert (listed["smtp_accounts"], listed["count"]) == ([account], 1)
    wanted = {
        "priority": 3,
        "recipient_domains": ["Example.com", "*.bücher.example"],
        "max_per_second": 0.5,
        "enabled": False,
    }
    wanted |= {"envelope_from": "bounces@example.com", "max_recipients_per_message": 25}
    changed = tenant.ask("PATCH", f"/{account['id']}", json=wanted).json()
    assert (
        changed.items()
        >= (wanted | {"recipient_domains": ["example.com", "*.xn--bcher-kva.example"], "setting_name": "main"}).items()
    )
    assert changed["updated_at"] > account["updated_at"]
    gone = tenant.ask("DELETE", f"/{account['id']}")
    assert (gone.status_code, gone.content) == (204, b"")
    assert code(tenant.ask("GET", f"/{account['id']}")) == (404, "not_found")


@pytest.mark.parametrize(("given", "expected"), [
    ({"preset": "gmail", "smtp_username": "a"}, ("smtp.gmail.com", 587, "STARTTLS", "a", 500)),
    ({"preset": "gmail", "smtp_username": "a", "max_per_day": 2000}, ("smtp.gmail.com", 587, "STARTTLS", "a", 2000)),
    ({"preset": "gmail", "smtp_username": "a", "max_per_day": None, "smtp_port": 465},
     ("smtp.gmail.com", 465, "TLS", "a", None)),
    ({"preset": "sendgrid"}, ("smtp.sendgrid.net", 587, "STARTTLS", "apikey", None)),
    ({"preset": "exmail", "smtp_username": "a", "smtp_host": "hwsmtp.exmail.qq.com"},
     ("hwsmtp.exmail.qq.com", 465, "TLS", "a", None)),
    ({"preset": "exmail", "smtp_username": "a", "security_protocol": "STARTTLS"},
     ("smtp.exmail.qq.com", 587, "STARTTLS", "a", None)),
    ({"smtp_host": "SMTP.Example.com.", "smtp_username": "a"}, ("smtp.example.com", 587, "STARTTLS", "a", None)),
    ({"smtp_host": "192.88.98.1", "smtp_username": "a", "smtp_port": 465}, ("192.88.98.1", 465, "TLS", "a", None)),
    ({"smtp_host": "smtp.example.com", "smtp_username": "a", "security_protocol": "NONE"},
     ("smtp.example.com", 25, "NONE", "a", None)),
])  # fmt: skip
def test_fields_that_are_not_given_come_from_the_preset_and_then_from_the_defaults(tenant, given, expected):
    made = tenant.ask("POST", "", json={"setting_name": "x", "smtp_password": "p"} | given)
    assert made.status_code == 201, made.text
    names = ("smtp_host", "smtp_port", "security_protocol", "smtp_username", "max_per_day")
    assert tuple(made.json()[name] for name in names) == expected
    assert made.json()["preset"] == given.get("preset")


def test_presets_are_listed_with_their_hints(tenant):
    listed = tenant.ask("GET", "/presets").json()
    assert [one["name"] for one in listed["presets"]] == list(PRESETS)
    assert listed["count"] == len(PRESETS)
    assert {one["name"]: one["max_recipients_per_message"] for one in listed["presets"]}["ses"] == 50
    gmail = listed["presets"][0]
    assert (gmail["smtp_host"], gmail["smtp_port"], gmail["security_protocol"], gmail["max_per_day"]) == (
        "smtp.gmail.com",
        587,
        "STARTTLS",
        500,
    )
    assert "app password" in gmail["username_hint"]


@pytest.mark.parametrize(("given", "field"), [
    ({"setting_name": ""}, "setting_name"), ({"setting_name": "a\nb"}, "setting_name"),
    ({"setting_name": " a"}, "setting_name"), ({"setting_name": "x" * 65}, "setting_name"),
    ({"setting_name": None}, "setting_name"), ({"smtp_host": "a b"}, "smtp_host"), ({"smtp_host": ""}, "smtp_host"),
    ({"smtp_host": "10.0.0.1"}, "smtp_host"), ({"smtp_host": "169.254.169.254"}, "smtp_host"),
    ({"smtp_host": "[::1]"}, "smtp_host"), ({"smtp_host": "::ffff:10.0.0.1"}, "smtp_host"),
    ({"smtp_host": "0x7f000001"}, "smtp_host"), ({"smtp_host": "10.0.0.1", "smtp_port": 22}, "smtp_port"),
    ({"smtp_port": 0}, "smtp_port"), ({"smtp_port": "25"}, "smtp_port"),
    ({"security_protocol": "SSL"}, "security_protocol"), ({"ca_certificate": "x"}, "ca_certificate"),
    ({"ca_certificate": ""}, "ca_certificate"), ({"smtp_password": "p"}, "smtp_username"),
    ({"smtp_username": "u"}, "smtp_password"), ({"smtp_username": "u", "smtp_password": ""}, "smtp_password"),
    ({"smtp_username": "u", "smtp_password": "x" * 1001}, "smtp_password"), ({"from_email": "a b@c.de"}, "from_email"),
    ({"from_email": "a@"}, "from_email"), ({"from_email": "Shop <a@b.cd>"}, "from_email"),
    ({"from_name": "a\r\nBcc: x@y.zz"}, "from_name"), ({"is_default": "yes"}, "is_default"),
    ({"is_default": None}, "is_default"), ({"enabled": 1}, "enabled"), ({"priority": -1}, "priority"),
    ({"weight": 0}, "weight"), ({"weight": 1001}, "weight"), ({"max_connections": 0}, "max_connections"),
    ({"max_per_second": 0}, "max_per_second"), ({"max_per_second": "1"}, "max_per_second"),
    ({"max_per_second": True}, "max_per_second"), ({"max_per_minute": 1.5}, "max_per_minute"),
    ({"max_per_day": 0}, "max_per_day"), ({"send_interval": -1}, "send_interval"),
    ({"recipient_domains": ["a@b.cd"]}, "recipient_domains.0"),
    ({"recipient_domains": ["*.*.cd"]}, "recipient_domains.0"),
    ({"recipient_domains": ["a.test"] * 101}, "recipient_domains"), ({"preset": "yahoo"}, "preset"),
    ({"smtp_host": None}, "smtp_host"), ({"envelope_from": "a b@c.de"}, "envelope_from"),
    ({"envelope_from": "Shop <a@b.cd>"}, "envelope_from"), ({"envelope_from": "b.cd"}, "envelope_from"),
    ({"envelope_from": ""}, "envelope_from"), ({"envelope_from": "rückläufer@example.com"}, "envelope_from"),
    ({"envelope_from": '"ü b"@example.com'}, "envelope_from"),
    ({"max_recipients_per_message": 0}, "max_recipients_per_message"),
    ({"max_recipients_per_message": "50"}, "max_recipients_per_message"),
])  # fmt: skip
def test_an_impossible_value_is_400_and_names_its_field_in_a_connection_test_too(tenant, given, field):
    body = {"setting_name": "x", "smtp_host": "smtp.example.com"} | given
    assert wrong(tenant.ask("POST", "", json=body)) == [field]
    assert wrong(tenant.ask("POST", "/test", json=body)) == [field]


@pytest.mark.parametrize(("given", "field", "words"), [
    ({"smtp_host": "10.0.0.1", "smtp_port": 8025}, "smtp_port",
     ("port 8025", "2525", "10.0.0.1 is no public host", "on any port")),
    ({"smtp_host": "::1", "smtp_port": 8025}, "smtp_port", ("port 8025", "::1 is no public host")),
    ({"smtp_host": "192.88.98.1", "smtp_port": 8025}, "smtp_port", ("port 8025", "2525", "permits the host")),
    ({"smtp_host": "10.0.0.1"}, "smtp_host", ("10.0.0.1: no public address",)),
])  # fmt: skip
def test_a_refusal_of_a_host_or_a_port_names_all_that_is_wrong_and_the_setting(tenant, given, field, words):
    for path, method in (("", "POST"), ("/test", "POST"), (f"/{tenant.account()['id']}", "PATCH")):
        body = given if method == "PATCH" else {"setting_name": "x"} | given
        (said,) = tenant.ask(method, path, json=body).json()["error"]["fields"][field]
        assert all(word in said for word in (*words, "ALLOW_PRIVATE_HOSTS")), said


def test_a_password_that_no_server_or_database_can_receive_is_400(tenant):
    for password in ("a\\u0000b", "a\\ud800b"):
        body = f'{{"setting_name": "x", "smtp_host": "a.example", "smtp_username": "u", "smtp_password": "{password}"}}'
        answer = tenant.ask("POST", "", data=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, answer.text


@pytest.mark.parametrize("name", [
    "id", "tenant_id", "has_password", "created_at", "updated_at", "health", "Setting_name", "smtp_accounts",
    "__class__",
])  # fmt: skip
def test_a_field_that_a_tenant_may_not_set_is_400_and_never_changes(tenant, name):
    account = tenant.account()
    for method, path in (("POST", ""), ("PATCH", f"/{account['id']}"), ("POST", "/test")):
        assert wrong(
            tenant.ask(method, path, json={"setting_name": "x", "smtp_host": "a.example", name: str(uuid4())})
        ) == [name]
    assert {key: value for key, value in tenant.shown(account).items() if key != "health"} == account
    assert wrong(tenant.ask("PATCH", f"/{account['id']}", json={"preset": "gmail"})) == ["preset"]
    assert wrong(tenant.ask("POST", f"/{account['id']}/test", json={"smtp_host": "a.example"})) == ["smtp_host"]


def test_only_the_certificates_of_a_pasted_file_are_kept(tenant, tmp_path):
    authority = Authority(tmp_path)
    pasted = "a note\n" + authority.issue("a.example").read_text() + Path(authority.ca_file).read_text()
    kept = tenant.account(ca_certificate=pasted)["ca_certificate"]
    assert kept.count("BEGIN CERTIFICATE") == 2
    assert "PRIVATE" not in kept
    assert "note" not in kept


def test_the_first_account_is_the_default_and_there_is_never_more_than_one(tenant):
    first, second = tenant.account(), tenant.account()
    assert (first["is_default"], second["is_default"]) == (True, False)
    third = tenant.account(is_default=True)
    assert [tenant.shown(one)["is_default"] for one in (first, second, third)] == [False, False, True]
    assert tenant.ask("PATCH", f"/{second['id']}", json={"is_default": True}).json()["is_default"]
    assert [tenant.shown(one)["is_default"] for one in (first, second, third)] == [False, True, False]
    tenant.ask("DELETE", f"/{second['id']}")
    assert not tenant.account()["is_default"]
    assert not Tenant(tenant.locked).account(is_default=False)["is_default"]


def test_one_of_several_accounts_that_are_added_at_once_is_the_default(locked):
    tenant = Tenant(locked)
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda n: requests.post(
            f"{locked.url}/smtp-accounts", json={"setting_name": f"{n}", "smtp_host": "a.example"},
            headers={"Authorization": f"Bearer {tenant.key}"}, timeout=PATIENCE), range(8)))  # fmt: skip
    assert [answer.status_code for answer in made] == [201] * 8
    assert [one["is_default"] for one in tenant.ask("GET", "").json()["smtp_accounts"]].count(True) == 1


def test_a_name_is_unique_in_its_tenant_and_a_tenant_has_at_most_100_accounts(tenant, locked):
    account = tenant.account(setting_name="main")
    again = {"setting_name": "main", "smtp_host": "a.example"}
    assert code(tenant.ask("POST", "", json=again)) == (409, "conflict")
    other = tenant.account()
    assert code(tenant.ask("PATCH", f"/{other['id']}", json={"setting_name": "main"})) == (409, "conflict")
    assert Tenant(locked).account(setting_name="main")["setting_name"] == account["setting_name"]
    for n in range(98):
        tenant.account(setting_name=f"{n}")
    assert code(tenant.ask("POST", "", json=again | {"setting_name": "one more"})) == (409, "conflict")
    page = tenant.ask("GET", "?limit=60")
    rest = tenant.locked.ask("GET", page.links["next"]["url"].removeprefix(locked.url), tenant.key).json()
    assert (len(page.json()["smtp_accounts"]), len(rest["smtp_accounts"]), rest["count"]) == (60, 40, 100)


def test_one_idempotency_key_makes_one_account_and_keeps_nothing_of_the_password(tenant, locked):
    body = {"setting_name": "once", "smtp_host": "a.example", "smtp_username": "u", "smtp_password": PASSWORD}
    with_key = {"headers": {"Idempotency-Key": "account 1"}}
    first, again = (tenant.ask("POST", "", json=body, **with_key) for _ in range(2))
    assert (first.status_code, again.status_code, again.headers["Idempotent-Replayed"]) == (201, 201, "true")
    assert (first.json(), first.headers["Location"]) == (again.json(), again.headers["Location"])
    for other in ({"smtp_password": "another"}, {"setting_name": "twice"}):
        assert code(tenant.ask("POST", "", json=body | other, **with_key)) == (422, "idempotency_mismatch")
    assert tenant.ask("GET", "").json()["count"] == 1
    taken = {"headers": {"Idempotency-Key": "account 2"}}
    assert code(tenant.ask("POST", "", json=body, **taken)) == (409, "conflict")
    assert tenant.ask("POST", "", json=body | {"setting_name": "free again"}, **taken).status_code == 201


def test_the_address_that_bounces_go_to_is_kept_in_ascii(tenant, provider):
    account = tenant.ask("POST", "", json=settings_of(provider) | {"envelope_from": "bounces@BÜCHER.example"}).json()
    assert account["envelope_from"] == "bounces@xn--bcher-kva.example"
    refused = tenant.ask("PATCH", f"/{account['id']}", json={"envelope_from": "rückläufer@example.com"})
    assert wrong(refused) == ["envelope_from"]
    assert (
        "rückläufer@example.com is not ASCII before the @-sign" in refused.json()["error"]["fields"]["envelope_from"][0]
    )


def test_a_field_of_a_megabyte_is_refused_for_its_length(tenant):
    long = "a." * 500_000
    fields = {"setting_name": long, "smtp_username": long, "smtp_password": long, "from_name": long}
    fields |= {"from_email": f"{long}@b.example", "envelope_from": f"{long}@b.example", "recipient_domains": [long]}
    for name, value in fields.items():
        given = {"setting_name": "a", "smtp_host": "a.example", "smtp_username": "u", "smtp_password": "p"}
        answer = tenant.ask("POST", "", json=given | {name: value})
        (why,) = answer.json()["error"]["fields"].values()
        assert (answer.status_code, len(answer.text) < 1000) == (400, True), name
        assert "are the most" in why[0] or "characters" in why[0], why
