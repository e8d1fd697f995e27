"""``/licences`` through the front door, as a tenant and as its customers' machines use them."""

import base64
import json
from email import message_from_bytes, policy

from mailbbgun.licences.tokens import TokenKind, read
from tests.http.conftest import Door
from tests.tenants.conftest import Locked, code

GIVEN = {"type": "standard", "subject": "Example Ltd", "email": "ann@example.com", "features": ["sso"], "seats": 2}
MACHINE = "9f86d081884c7d65"


def issued(door: Door, **fields):
    made = door.call("POST", "/licences", json=GIVEN | fields)
    assert made.status_code == 201, made.text
    return made.json()


def asked(door: Door, verb: str, token: str, **fields):
    return door.call("POST", f"/licences/{verb}", json={"token": token} | fields)


def verified(door: Door, token: str, **fields):
    answer = asked(door, "verify", token, **fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def offline(door: Door, token: str, kind: TokenKind):
    """Read a token with nothing but the published keys."""
    public = {one["kid"]: one["x"] for one in door.get("/.well-known/jwks.json")["keys"]}
    return read(token, kind, public.get)


def tenant_of(token: str) -> str:
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["aud"]


WRONG = [
    ({"type": "golden"}, "type", '"golden"'),
    ({"type": "trial"}, "expires_at", "A trial needs an end"),
    ({"expires_at": "2001-01-01"}, "expires_at", "is not after not_before"),
    ({"expires_at": "2001-01-01", "not_before": "2000-01-01"}, "expires_at", "has passed"),
    ({"seats": 0}, "seats", "0"),
    ({"seats": "5"}, "seats", '"5"'),
    ({"email": "ann"}, "email", "no @-sign"),
    ({"subject": "a\nb"}, "subject", "one line"),
    ({"features": ["a b"]}, "features.0", "1 to 64 letters"),
    ({"metadata": {"x": "y" * 5000}}, "metadata", "4096 are the most"),
]


def test_a_wrong_licence_is_refused_with_the_field_and_what_is_right(door: Door) -> None:
    for fields, name, says in WRONG:
        answer = door.call("POST", "/licences", json=GIVEN | fields)
        assert answer.status_code == 400, answer.text
        wrong = answer.json()["error"]["fields"]
        assert list(wrong) == [name]
        assert says in wrong[name][0]


def test_a_licence_is_issued_once_found_verified_offline_and_revoked(door: Door) -> None:
    given = GIVEN | {"subject": "Once & Co_", "metadata": {"order": 7}, "expires_at": "2999-01-01T00:00:00Z"}
    first, again = (door.call("POST", "/licences", json=given, headers={"Idempotency-Key": "l1"}) for _ in range(2))
    assert (first.status_code, again.headers["Idempotent-Replayed"]) == (201, "true")
    assert first.json() == again.json()
    other = door.call("POST", "/licences", json=given | {"seats": 3}, headers={"Idempotency-Key": "l1"})
    assert other.status_code == 422
    one = first.json()
    assert (one["status"], one["metadata"], one["activations"]) == ("valid", {"order": 7}, [])
    claims = offline(door, one["token"], TokenKind.LICENCE)
    assert (claims["jti"], claims["sub"], claims["seats"], claims["features"]) == (one["id"], "Once & Co_", 2, ["sso"])
    assert claims["exp"] == 32472144000
    assert "order" not in claims
    found = door.get("/licences", text="once & co_", status="valid", type="standard", email="ANN@example.com")
    assert ([line["id"] for line in found["licences"]], found["count"]) == ([one["id"]], 1)
    assert "token" not in found["licences"][0]
    for nothing in ({"status": "expired"}, {"type": "trial"}, {"email": "bob@example.com"}):
        assert door.get("/licences", text="once & co_", **nothing)["count"] == 0
    told = verified(door, one["token"])
    assert (told["valid"], told["status"], told["seats_used"], told["activated"]) == (True, "valid", 0, None)
    path, listed = f"/licences/{one['id']}", f"/licences/revoked?tenant={claims['aud']}"
    assert asked(door, "activate", one["token"], fingerprint=MACHINE).status_code == 200
    before = door.call("GET", listed)
    assert "max-age=300" in before.headers["Cache-Control"]
    revoked = door.call("POST", f"{path}/revoke", json={"reason": "refunded"}).json()
    assert (revoked["status"], revoked["revoked_reason"]) == ("revoked", "refunded")
    assert door.call("POST", f"{path}/revoke").json() == revoked
    told = verified(door, one["token"], fingerprint=MACHINE)
    assert (told["valid"], told["status"], told["seats_used"], told["activated"]) == (False, "revoked", 0, False)
    for verb in ("activate", "heartbeat"):
        assert code(asked(door, verb, one["token"], fingerprint=MACHINE)) == (409, "conflict")
    assert code(door.call("POST", f"{path}/renew")) == (409, "conflict")
    assert code(door.call("POST", f"{path}/mail")) == (409, "conflict")
    after = door.call("GET", listed, headers={"If-None-Match": before.headers["ETag"]})
    assert after.status_code == 200
    gone = offline(door, after.json()["token"], TokenKind.REVOKED)
    assert gone["aud"] == claims["aud"]
    assert {"jti": one["id"], "why": "revoked"}.items() <= gone["revoked"][-1].items()


def test_a_renewal_keeps_the_seats_and_the_old_token_ends_with_the_overlap(door: Door) -> None:
    old = issued(door, expires_at="2998-01-01", not_before="2997-01-01")
    assert verified(door, old["token"])["status"] == "not_yet_valid"
    assert "begins at" in asked(door, "activate", old["token"], fingerprint=MACHINE).json()["error"]["message"]
    old = issued(door)
    assert asked(door, "activate", old["token"], fingerprint=MACHINE).status_code == 200
    path = f"/licences/{old['id']}"
    wanted = {"seats": 1, "features": [], "expires_at": "2999-01-01"}
    new = door.call("POST", f"{path}/renew", json=wanted).json()
    assert (new["subject"], new["seats"], new["features"]) == (old["subject"], 1, [])
    assert [one["fingerprint"] for one in new["activations"]] == [MACHINE]
    assert door.get(path)["superseded_by"] == new["id"]
    assert code(door.call("POST", f"{path}/renew")) == (409, "conflict")
    assert [verified(door, one["token"])["status"] for one in (old, new)] == ["valid", "valid"]
    # Fewer seats than machines: the first one keeps its seat.
    assert asked(door, "activate", old["token"], fingerprint="second-machine").status_code == 200
    assert asked(door, "heartbeat", new["token"], fingerprint=MACHINE).status_code == 200
    assert code(asked(door, "heartbeat", new["token"], fingerprint="second-machine")) == (409, "conflict")
    newest = door.call("POST", f"/licences/{new['id']}/renew", json={"overlap_days": 0}).json()
    assert newest["expires_at"] > new["expires_at"]
    told = verified(door, new["token"])
    assert (told["status"], told["superseded_by"]) == ("superseded", newest["id"])
    assert door.call("POST", f"/licences/{newest['id']}/revoke").status_code == 200
    assert {verified(door, one["token"])["status"] for one in (old, new, newest)} == {"revoked"}


def test_machines_take_seats_get_leases_and_give_seats_back(door: Door) -> None:
    token = issued(door, expires_at="2999-01-01")["token"]
    lease = asked(door, "activate", token, fingerprint=MACHINE, name="build-3").json()
    claims = offline(door, lease["lease"], TokenKind.LEASE)
    assert (claims["sub"], claims["aud"], claims["features"]) == (MACHINE, tenant_of(token), ["sso"])
    assert claims["exp"] - claims["iat"] == 24 * 3600
    assert claims["grace_until"] - claims["exp"] == 168 * 3600
    # Shown again, a token takes no second seat for the same machine.
    assert asked(door, "activate", token, fingerprint=MACHINE).json()["seats_used"] == 1
    assert asked(door, "activate", token, fingerprint="second-machine").json()["seats_used"] == 2
    full = asked(door, "activate", token, fingerprint="third-machine")
    assert code(full) == (409, "conflict")
    assert "2 of 2 seats are taken" in full.json()["error"]["message"]
    assert asked(door, "heartbeat", token, fingerprint=MACHINE).json()["seats_used"] == 2
    assert code(asked(door, "heartbeat", token, fingerprint="third-machine")) == (409, "conflict")
    assert [asked(door, "deactivate", token, fingerprint=MACHINE).status_code for _ in range(2)] == [204, 204]
    assert asked(door, "activate", token, fingerprint="third-machine").status_code == 200
    assert verified(door, token, fingerprint=MACHINE)["activated"] is False
    assert verified(door, token, fingerprint="third-machine")["activated"] is True
    for bad in (lease["lease"], token[:-4] + "AAAA", token.rpartition(".")[0] + ".", "x" * 8192):
        told = verified(door, bad)
        assert (told["valid"], told["status"], set(told)) == (False, "invalid", {"valid", "status", "reason"})
        for verb in ("activate", "heartbeat", "deactivate"):
            refused = asked(door, verb, bad, fingerprint=MACHINE)
            assert list(refused.json()["error"]["fields"]) == ["token"]
            assert bad not in refused.text
    for wrong, field in ({"token": "x" * 8193}, "token"), ({"token": token, "fingerprint": "a b"}, "fingerprint"):
        answer = door.call("POST", "/licences/verify", json=wrong)
        assert (answer.status_code, list(answer.json()["error"]["fields"])) == (400, [field])


def test_a_token_is_mailed_to_its_owner_once(door: Door) -> None:
    one = issued(door, email="owner@example.com")
    sent = [door.call("POST", f"/licences/{one['id']}/mail") for _ in range(2)]
    assert [answer.status_code for answer in sent] == [200, 200], sent[0].text
    assert sent[0].json() == sent[1].json()
    message = sent[0].json()["message_id"]
    shown = door.get(f"/messages/{message}")
    assert (shown["to"], shown["tags"]) == (["owner@example.com"], ["licence"])
    raw = message_from_bytes(door.call("GET", f"/messages/{message}/raw").content, policy=policy.default)
    assert one["token"] in raw.get_content().splitlines()


def test_keys_need_the_scope_and_machines_need_none(locked: Locked) -> None:
    tenant, other = locked.tenant("seller"), locked.tenant("other seller")
    key = locked.key(tenant, scopes=["licences"])["key"]
    plain = locked.key(tenant, scopes=["messages:write", "messages:read"])["key"]
    test = locked.key(tenant, scopes=["licences"], kind="test")["key"]
    made = locked.ask("POST", "/licences", key, json=GIVEN).json()
    path = f"/licences/{made['id']}"
    for who, why in ((plain, "forbidden"), (test, "test_key")):
        assert code(locked.ask("GET", "/licences", who)) == (403, why)
        assert code(locked.ask("POST", "/licences", who, json=GIVEN)) == (403, why)
    assert code(locked.ask("POST", f"{path}/mail", key)) == (403, "forbidden")
    assert locked.ask("POST", "/licences/verify", json={"token": made["token"]}).json()["valid"] is True
    assert locked.ask("POST", "/licences/activate", json={"token": made["token"], "fingerprint": MACHINE}).ok
    assert locked.ask("POST", f"{path}/revoke", key).ok
    lists = [locked.ask("GET", f"/licences/revoked?tenant={one}").json()["token"] for one in (tenant, other)]
    assert [len(offline(locked, one, TokenKind.REVOKED)["revoked"]) for one in lists] == [1, 0]
    assert locked.ask("GET", "/licences/revoked").status_code == 400
    keys = locked.call("GET", "/.well-known/jwks.json")
    assert "private" not in keys.text
    assert {"kty", "crv", "x", "kid", "alg", "use"} == set(keys.json()["keys"][0])
    same = locked.call("GET", "/.well-known/jwks.json", headers={"If-None-Match": keys.headers["ETag"]})
    assert (same.status_code, same.content) == (304, b"")
