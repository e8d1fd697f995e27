"""Sending domains over HTTP: adding, publishing, checking, rotating and deleting."""

from base64 import b64decode

import pytest
from cryptography.hazmat.primitives.serialization import load_der_public_key
from sqlalchemy import text

from mailbbgun.core.errors import InvalidInput
from mailbbgun.domains import edit
from tests.domains.conftest import Tenant, finding
from tests.tenants.conftest import code


def test_a_new_domain_comes_with_its_records_and_signs_once_they_are_seen(tenant):
    domain = tenant.add()
    assert (domain["signs"], domain["checked_at"], domain["findings"]) == (False, None, [])
    assert [(key["algorithm"], key["state"]) for key in domain["keys"]] == [
        ("ed25519-sha256", "pending"), ("rsa-sha256", "pending"),
    ]  # fmt: skip
    by_name = {record["name"]: record for record in domain["records"]}
    for key in domain["keys"]:
        record = by_name[f"{key['selector']}._domainkey.{tenant.name}"]
        public = record["value"].partition("; p=")[2]
        if key["algorithm"] == "rsa-sha256":
            assert load_der_public_key(b64decode(public)).key_size == 2048
            assert len(record["strings"]) == 2
        assert "".join(record["strings"]) == record["value"]
        assert max(map(len, record["strings"])) <= 255
        assert record["zone"].startswith(f'{record["name"]}. IN TXT "v=DKIM1; k=')
    assert by_name[f"_dmarc.{tenant.name}"]["value"] == "v=DMARC1; p=none"

    unseen = tenant.check()
    assert not unseen["signs"]
    assert {one["state"] for one in unseen["findings"]} == {"missing", "wrong"}
    tenant.publish(domain)
    seen = tenant.check()
    assert seen["signs"]
    assert {key["state"] for key in seen["keys"]} == {"active"}
    assert {one["state"] for one in seen["findings"]} == {"ok"}, seen["findings"]
    assert {one["about"] for one in seen["findings"]} == {"dkim", "spf", "dmarc", "mx", "return_path"}
    shown = tenant.ask("GET", f"/{tenant.name}").json()
    assert shown == seen
    (listed,) = tenant.ask("GET").json()["domains"]
    names = ("id", "name", "local", "policy", "signs", "created_at", "checked_at")
    assert listed == {name: shown[name] for name in names}
    assert tenant.ask("GET", f"/{domain['id']}").json() == shown


def test_a_check_says_what_is_wrong_and_activates_only_what_is_right(tenant):
    domain = tenant.publish(tenant.add())
    rsa = next(one["name"] for one in domain["records"] if "k=rsa" in one["value"])
    value = tenant.dns.zone[rsa]
    for records, words in (
        ({"TXT": [value["TXT"][0].split('" "')[0] + '"']}, "cut off"),
        ({"TXT": ['"v=DKIM1; k=rsa; p="']}, "withdrawn"),
        ({"TXT": ['"v=DKIM1; k=rsa; p=TUlJQg=="']}, "another key"),
        ({"TXT": value["TXT"] * 1 + ['"something else"']}, "exactly one"),
        ({"TXT": ['"hello"']}, "no DKIM record"),
        ("SERVFAIL", "no answer"),
        ("REFUSED", "no answer"),
        ({"A": ["192.0.2.1"]}, "no such record"),
    ):
        tenant.dns.zone[rsa] = records
        checked = tenant.check()
        assert words in finding(checked, "dkim", rsa)["words"]
        assert {key["algorithm"]: key["state"] for key in checked["keys"]} == {
            "ed25519-sha256": "active", "rsa-sha256": "pending",
        }  # fmt: skip
    tenant.dns.zone[rsa] = value
    assert {key["state"] for key in tenant.check()["keys"]} == {"active"}


def test_a_check_may_be_told_that_the_records_are_there(tenant):
    tenant.add()
    forced = tenant.check(force=True)
    assert forced["signs"]
    assert finding(forced, "dkim")["state"] == "missing"


def test_new_keys_replace_the_old_ones_when_their_records_are_seen_and_the_old_ones_are_kept(tenant):
    first = tenant.publish(tenant.add())
    old = {key["selector"] for key in tenant.check()["keys"]}
    rotated = tenant.ask("POST", f"/{tenant.name}/rotate")
    assert rotated.status_code == 201
    new = {key["selector"] for key in rotated.json()["keys"]} - old
    assert tenant.states() == dict.fromkeys(old, "active") | dict.fromkeys(new, "pending")
    assert code(again := tenant.ask("POST", f"/{tenant.name}/rotate")) == (409, "conflict")
    assert all(selector in again.json()["error"]["message"] for selector in new)
    assert tenant.check()["signs"]
    assert tenant.states() == dict.fromkeys(old, "active") | dict.fromkeys(new, "pending")

    tenant.publish(rotated.json())
    seen = tenant.check()
    assert tenant.states() == dict.fromkeys(old, "retired") | dict.fromkeys(new, "active")
    by_selector = {key["selector"]: key for key in seen["keys"]}
    assert {by_selector[one]["retired_at"] for one in old} == {by_selector[one]["active_from"] for one in new}
    assert all(by_selector[one]["removed_at"] > by_selector[one]["retired_at"] for one in old)
    # Records of retired keys are published already: nobody need publish them again.
    assert not {one["name"] for one in seen["records"]} & {
        one["name"] for one in first["records"] if one["purpose"] == "dkim"
    }
    (one, *_) = old
    assert tenant.ask("DELETE", f"/{tenant.name}/keys/{one}").status_code == 204
    assert one not in tenant.states()
    assert code(tenant.ask("DELETE", f"/{tenant.name}/keys/{one}")) == (404, "not_found")


@pytest.mark.parametrize(("name", "words"), [
    ("localhost", "has no dot"), ("a b.test", "Not a domain: it contains"), ("ann@example.com", "@-sign"),
    ("192.0.2.1", "IP address"),
    ("-x.test", ""), ("x..test", ""), ("", ""), ("a" * 64 + ".test", ""), ("x." * 130 + "test", ""),
    ("ex\u202eample.com", ""), ("exa\u0001mple.com", ""),
])  # fmt: skip
def test_a_name_that_is_no_domain_is_refused_with_the_reason(tenant, name, words):
    refused = tenant.ask("POST", json={"name": name})
    assert code(refused) == (400, "validation_error")
    assert words in refused.json()["error"]["fields"]["name"][0]


def test_an_international_name_is_kept_and_shown_in_a_labels(tenant):
    stem = tenant.name.removesuffix(".test")
    made = tenant.add(f"MÜLLER-{stem}.Test.")
    assert made["name"] == f"xn--mller-{stem}-".partition("-" + stem)[0] + made["name"].removeprefix("xn--mller")
    assert made["name"].isascii()
    assert tenant.ask("GET", f"/müller-{stem}.test").json()["id"] == made["id"]
    assert code(tenant.ask("POST", json={"name": f"müller-{stem}.test"})) == (409, "conflict")
    # A Cyrillic а is another letter, and so another domain, which people see.
    other = tenant.add(f"p\u0430ypal-{stem}.test")
    assert other["name"].startswith("xn--")
    assert tenant.ask("DELETE", f"/{made['name']}").status_code == 204
    assert code(tenant.ask("GET", f"/müller-{stem}.test")) == (404, "not_found")


# Letters of other scripts that people take for ASCII letters (UTS #39).
LOOK_ALIKE = {
    "a": "аɑα", "c": "сϲ", "e": "еҽ", "g": "ɡց", "h": "һհ", "i": "іɩ", "j": "јϳ", "l": "ӏ", "n": "ո", "o": "оοօ",
    "p": "рρ", "s": "ѕ", "u": "սυʋ", "v": "ѵν", "w": "ԝա", "x": "хҳ", "y": "уүγ", "z": "ᴢ", "d": "ԁ", "q": "ԛ",
}  # fmt: skip


def kept_as(name: str) -> str:
    """Return a name as it is kept; if it is refused, the name itself, which then is not ASCII."""
    try:
        return edit.domain_name(name)
    except InvalidInput:
        return name


def test_no_name_that_looks_like_another_is_kept_or_shown_as_that_one():
    seen = set()
    for real in ("paypal.com", "google.com", "microsoft.com", "example.org", "whitehouse.gov", "quick-jazz.dev"):
        for place, letter in enumerate(real):
            for other in LOOK_ALIKE.get(letter, ""):
                forged = real[:place] + other + real[place + 1 :]
                name = kept_as(forged)
                assert name == forged or (name.isascii() and "xn--" in name)
                assert name not in seen | {real}
                seen.add(name)
    assert len(seen) > 100


def test_a_domain_of_another_tenant_is_answered_like_one_that_does_not_exist(tenant, locked, dns):
    other = Tenant(locked, dns)
    domain = other.add()
    for name in (other.name, domain["id"]):
        for method, path, body in (
            ("GET", "", None), ("DELETE", "", None), ("POST", "/check", {}), ("POST", "/rotate", None),
            ("DELETE", f"/keys/{domain['keys'][0]['selector']}", None),
        ):  # fmt: skip
            foreign = tenant.ask(method, f"/{name}{path}", json=body)
            missing = tenant.ask(method, f"/no-such-name.test{path}", json=body)
            assert code(foreign) == (404, "not_found")
            assert foreign.content == missing.content
    assert tenant.ask("GET").json() == {"domains": [], "count": 0}
    # Two tenants may have one domain. Their keys differ, and so do their selectors.
    ours = tenant.add(other.name)
    assert not {key["selector"] for key in ours["keys"]} & {key["selector"] for key in domain["keys"]}
    assert tenant.ask("DELETE", f"/{other.name}").status_code == 204
    assert other.ask("GET", f"/{other.name}").json()["id"] == domain["id"]


def test_domains_need_their_scope_and_a_key_with_senders_has_only_its_own(tenant):
    tenant.add()
    assert code(tenant.ask("GET", key=tenant.another("accounts", "messages:read"))) == (403, "forbidden")
    test = tenant.another("domains", kind="test")
    assert code(tenant.ask("GET", f"/{tenant.name}", key=test)) == (403, "test_key")
    own = f"own-{tenant.name}"
    bound = tenant.another("domains", senders=[own])
    for method, path, body in (
        ("POST", "", {"name": tenant.name}), ("POST", f"/{tenant.name}/check", {}),
        ("POST", f"/{tenant.name}/rotate", None), ("DELETE", f"/{tenant.name}", None),
    ):  # fmt: skip
        refused = tenant.ask(method, path, json=body, key=bound)
        assert code(refused) == (403, "forbidden")
        assert "senders" in refused.json()["error"]["message"]
    assert tenant.ask("POST", json={"name": own}, key=bound).status_code == 201
    assert tenant.ask("POST", f"/{own}/check", json={}, key=bound).status_code == 200


def test_a_repeated_request_with_its_key_adds_a_domain_once(tenant):
    headers = {"Idempotency-Key": "domain 1"}
    first, again = (tenant.ask("POST", json={"name": tenant.name}, headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    assert first.headers["Location"].endswith(f"/domains/{tenant.name}")
    assert tenant.ask("GET").json()["count"] == 1


def test_private_keys_are_encrypted_and_no_answer_shows_them(tenant):
    domain = tenant.add()
    with tenant.locked.services.db.read() as session:
        kept = session.execute(
            text("SELECT private_key FROM dkim_keys WHERE selector = :selector"),
            {"selector": domain["keys"][0]["selector"]},
        ).scalar_one()
    secret = tenant.locked.services.vault.decrypt(kept)
    assert len(b64decode(secret)) > 32
    for answer in (
        tenant.ask("GET"),
        tenant.ask("GET", f"/{tenant.name}"),
        tenant.ask("POST", f"/{tenant.name}/check", json={}),
    ):
        assert secret not in answer.text
        assert kept not in answer.text
        assert "private" not in answer.text


def test_the_spf_record_names_the_providers_of_the_accounts_and_bounces_are_looked_for_where_they_go(tenant):
    tenant.add()
    elsewhere = f"bounces.{tenant.name}"
    for number, fields in enumerate((
        {"preset": "ses", "smtp_host": "email-smtp.eu-west-1.amazonaws.com", "envelope_from": f"b@{elsewhere}"},
        {"preset": "postmark", "from_email": "another.test", "envelope_from": "b@another.test"},
    )):  # fmt: skip
        login = {"setting_name": f"a{number}", "smtp_username": "u", "smtp_password": "p"}
        made = tenant.locked.ask("POST", "/smtp-accounts", tenant.key, json=login | fields)
        assert made.status_code == 201, made.text
    domain = tenant.publish(tenant.ask("GET", f"/{tenant.name}").json())
    (spf,) = [one for one in domain["records"] if one["purpose"] == "spf"]
    assert (spf["name"], spf["value"]) == (tenant.name, "v=spf1 include:amazonses.com ~all")
    tenant.dns.zone[elsewhere] = {"MX": ["0 ."], "TXT": ['"v=spf1 ip4:192.0.2.1 -all"']}
    checked = tenant.check()
    assert finding(checked, "spf", elsewhere)["state"] == "unknown"
    assert "include:amazonses.com" in finding(checked, "spf", elsewhere)["words"]
    assert "null MX" in finding(checked, "return_path", elsewhere)["words"]
    assert finding(checked, "mx", tenant.name)["state"] == "ok"
    assert "another.test" not in str(checked)
