"""``bin/mailbbgun domain``, with a private name server."""

from collections.abc import Iterator

import pytest

from tests.cli.conftest import Shell
from tests.domains.conftest import RECEIVES
from tests.domains.verifiers import quoted
from tests.smtp.name_server import NameServer


@pytest.fixture(scope="module")
def dns() -> Iterator[NameServer]:
    with NameServer({"mx.test": {"A": ["192.0.2.1"]}}, ttl=0) as server:
        yield server


def test_a_domain_is_added_checked_rotated_and_deleted(shell: Shell, dns: NameServer) -> None:
    name = f"{shell.services.db.dialect}.test"
    servers = {"DNS_SERVERS": f"127.0.0.1:{dns.port}"}
    made = shell.json("domain", "add", f"{name.title()}.")
    assert (made["name"], made["signs"], len(made["keys"])) == (name, False, 2)
    for record in made["records"]:
        assert record["value"] in shell.run("domain", "show", name).stdout
    missing = shell.run("domain", "check", name, code=1, **servers)
    assert "missing" in missing.stdout
    assert missing.stderr == f"mailbbgun: {name}: 6 of 6 records are missing or wrong.\n"
    dns.zone[name] = RECEIVES
    for record in made["records"]:
        dns.zone[record["name"]] = {"TXT": [quoted(record["value"])]}
    seen = shell.json("domain", "check", made["id"], **servers)
    assert seen["signs"]
    assert [one["name"] for one in shell.json("domain", "list")["domains"]] == [name]
    head, row = shell.run("domain", "list").stdout.splitlines()
    assert (head.split()[:3], row.split()[:3]) == (["name", "local", "signs"], [name, "no", "yes"])

    rotated = shell.json("domain", "rotate", name)
    assert sorted(key["state"] for key in rotated["keys"]) == ["active", "active", "pending", "pending"]
    assert "wait for their records" in shell.run("domain", "rotate", name, code=1).stderr
    shell.run("domain", "check", name, "--force", code=1, **servers)
    keys = shell.json("domain", "show", name)["keys"]
    assert sorted(key["state"] for key in keys) == ["active", "active", "retired", "retired"]
    old = next(key["selector"] for key in keys if key["state"] == "retired")
    unknown = shell.run("domain", "delete", name, "--key", "nosuch", "--yes", code=1).stderr
    assert "no key 'nosuch'; it has mbb" in unknown
    shell.run("domain", "delete", name, "--key", old, "--yes")
    assert len(shell.json("domain", "show", name)["keys"]) == 3
    assert "--yes does not ask" in shell.run("domain", "delete", name, code=2).stderr
    shell.run("domain", "delete", name, "--yes")
    assert shell.run("domain", "show", name, code=1).stderr == "mailbbgun: There is no such domain.\n"
    assert "no dot" in shell.run("domain", "add", "localhost", code=2).stderr


def test_keys_of_domains_are_encrypted_again_with_the_others(shell: Shell) -> None:
    shell.run("domain", "add", "again.test")
    before = shell.json("encryption", "status")["keys"][0]["secrets"]
    assert before >= 2
    from_old = {"ENCRYPTION_KEYS": f"{'B' * 43}=,{shell.settings['ENCRYPTION_KEYS']}"}
    assert f"encrypted by the first key: {before} of {before}" in shell.run("encryption", "rotate", **from_old).stdout
    back = {"ENCRYPTION_KEYS": f"{shell.settings['ENCRYPTION_KEYS']},{'B' * 43}="}
    shell.run("encryption", "rotate", **back)
