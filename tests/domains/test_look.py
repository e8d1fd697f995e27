"""The DNS is asked all questions at once, and silence is an answer."""

from datetime import UTC, datetime

import pytest

from mailbbgun.core.errors import ConfigurationError, Unavailable
from mailbbgun.core.ids import new_id
from mailbbgun.domains import keys
from mailbbgun.domains.dns.look import DomainChecks, Plan, look
from mailbbgun.domains.dns.records import Record
from mailbbgun.relays.mx import NoAnswer, Resolver, texts
from tests.domains.verifiers import quoted
from tests.smtp.name_server import NameServer


class Public:
    """A key pair as a plan has it."""

    def __init__(self, pair: keys.KeyPair) -> None:
        self.selector, self.algorithm, self.public_key = pair.selector, pair.algorithm, pair.public

    @property
    def record(self) -> Record:
        value = keys.record_value(self.algorithm, self.public_key)
        return Record("dkim", f"{self.selector}._domainkey.a.example.test", value)


PUBLIC = [Public(pair) for pair in keys.new_pairs(datetime.now(UTC))]
PLAN = Plan("a.example.test", PUBLIC, ["include:x.test"], ["b.test"])
ZONE = {
    **{one.record.name: {"TXT": [quoted(one.record.value)]} for one in PUBLIC},
    "a.example.test": {"MX": ["10 mx.test."], "TXT": ['"v=spf1 mx ~all"']},
    "b.test": {"A": ["192.0.2.1"], "TXT": ['"v=spf1 include:x." "test ~all"']},
    "_dmarc.example.test": {"TXT": ['"v=DMARC1; p=none"']},
}


def test_all_is_found_and_the_dmarc_record_of_a_parent_counts():
    with NameServer(ZONE) as server:
        report = look(PLAN, Resolver(["127.0.0.1"], server.port))
        assert {(one.about, one.name): one.state for one in report.findings} == {
            **{("dkim", one.record.name): "ok" for one in PUBLIC},
            ("spf", "b.test"): "ok",
            ("dmarc", "_dmarc.example.test"): "ok",
            ("mx", "a.example.test"): "ok",
            ("return_path", "b.test"): "ok",
        }
        assert report.seen == {one.selector for one in PUBLIC}
        assert not [name for name, _ in server.asked if name in ("_dmarc.test", "test")]


# The name of a key differs in each process, and so would the name of its test.
@pytest.mark.parametrize(
    "silent",
    ["a.example.test", "b.test", "_dmarc.a.example.test", PUBLIC[0].record.name],
    ids=["domain", "return path", "dmarc", "key"],
)
@pytest.mark.parametrize("how", ["silent", "SERVFAIL", "REFUSED", "NXDOMAIN"])
def test_a_name_server_that_gives_no_answer_about_one_name_hides_nothing_else(silent, how):
    with NameServer(ZONE | {silent: how}) as server:
        report = look(PLAN, Resolver(["127.0.0.1"], server.port, lifetime=0.5))
    states = {one.state for one in report.findings if one.name == silent}
    assert states == {"unknown"}
    assert {one.state for one in report.findings if one.name != silent} <= {"ok", "missing"}
    assert report.seen == {one.selector for one in PUBLIC if one.record.name != silent}


def test_txt_records_are_joined_and_other_answers_are_none():
    with NameServer(ZONE | {"empty.test": {"A": ["192.0.2.1"]}, "away.test": "SERVFAIL"}) as server:
        resolver = Resolver(["127.0.0.1"], server.port)
        assert texts("b.test", resolver) == ["v=spf1 include:x.test ~all"]
        assert texts("empty.test", resolver) == texts("none.test", resolver) == []
        with pytest.raises(NoAnswer):
            texts("away.test", resolver)


def test_few_look_at_once_and_only_one_for_a_tenant():
    tenant = new_id()
    seen: list[str] = []

    def resolver() -> Resolver:
        for other in (tenant, new_id()):
            with pytest.raises(Unavailable, match="Too many"):
                checks.run(other, PLAN)
        seen.append("asked")
        raise ConfigurationError("DNS_SERVERS: none given")

    checks = DomainChecks(resolver, threads=2)
    for _ in range(2):
        with pytest.raises(Unavailable, match="DNS_SERVERS"):
            checks.run(tenant, PLAN)
    assert seen == ["asked"] * 2
