"""``bin/mailbbgun licence``."""

from tests.cli.conftest import Shell


def test_a_licence_is_issued_verified_renewed_and_revoked(shell: Shell) -> None:
    given = ("--subject", "Example Ltd", "--email", "ann@example.com", "--feature", "sso", "--feature", "export")
    assert "A trial needs an end" in shell.run("licence", "issue", "--type", "trial", *given, code=2).stderr
    made = shell.json("licence", "issue", "--type", "standard", "--seats", "3", *given)
    assert (made["status"], made["seats"], made["features"]) == ("valid", 3, ["sso", "export"])
    assert shell.json("licence", "show", made["id"]) == made
    assert shell.json("licence", "verify", made["token"])["seats_used"] == 0
    assert "signs now" in shell.run("licence", "rotate-key").stdout
    new = shell.run("licence", "renew", made["id"], "--seats", "4", "--overlap-days", "0", "--quiet").stdout.strip()
    assert shell.json("licence", "verify", new)["seats"] == 4
    assert "superseded" in shell.run("licence", "verify", made["token"], code=1).stdout
    assert "renewed by" in shell.run("licence", "renew", made["id"], code=1).stderr
    listed = shell.json("licence", "list", "--text", "EXAMPLE", "--status", "valid")
    assert listed["count"] == 1
    assert listed["licences"][0]["kid"] != made["kid"]
    assert "Example Ltd" in shell.run("licence", "list").stdout
    assert shell.json("licence", "revoke", made["id"], "--reason", "refunded")["revoked_reason"] == "refunded"
    assert "invalid" in shell.run("licence", "verify", "x.y.z", code=1).stdout
    # The tokens and the key are secrets of the database, which a change of its keys includes.
    assert shell.json("encryption", "status")["unreadable"] == []
