"""Which hosts, addresses and ports a tenant may name.

Tables of spellings, and listeners on this machine that none of the spellings may reach.
"""

import socket
from contextlib import ExitStack, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbbgun.core.errors import InvalidInput, NotPermitted
from mailbbgun.core.net import MAX_ADDRESSES, SMTP_PORTS, Allowed, Guard, hostname, ours, permitted, system_look_up
from tests.tenants.canary import Canary
from tests.waiting import PATIENCE

PUBLIC = """
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 168.63.129.15
    169.253.255.255 169.255.0.0
    172.15.255.255 172.32.0.0 192.0.1.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255
    2000:: 2606:4700:4700::1111 2a00:1450:4001:800::1b 2001:4860:4860::8888 2001:200:: 2003:: 2400:cb00::1
    ::ffff:8.8.8.8 ::ffff:808:808 64:ff9b::8.8.8.8 64:ff9b::808:808
"""

NOT_PUBLIC = """
    0.0.0.0 0.0.0.1 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.100.100.200 100.127.255.255 127.0.0.1 127.0.0.0
    127.255.255.255
    168.63.129.16 169.254.0.0 169.254.169.254 169.254.170.2 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1
    192.31.196.1
    192.52.193.1 192.88.99.1 192.168.0.1 192.168.255.255 192.175.48.1 198.18.0.0 198.19.255.255 198.51.100.1 203.0.113.1
    224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.254 255.255.255.255
    :: ::1 ::2 ::127.0.0.1 ::10.0.0.1 ::8.8.8.8 0:0:0:0:0:0:0:1
    ::ffff:127.0.0.1 ::ffff:7f00:1 ::FFFF:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0.0.0.0 0:0:0:0:0:ffff:c0a8:1
    ::ffff:0:127.0.0.1 ::ffff:0:8.8.8.8
    64:ff9b::127.0.0.1 64:ff9b::a00:1 64:ff9b::169.254.169.254 64:ff9b:0:0:0:1:808:808 64:ff9b:1::8.8.8.8 64:ff9b:1::1
    64:ff9b:1:ffff::7f00:1
    2002:7f00:1:: 2002:a00:1::1 2002:808:808:: 2001:0:4136:e378:8000:63bf:80ff:fffe 2001::1 2001:2::1 2001:10::1
    2001:20::1 2001:db8::1
    2620:4f:8000::1 3fff::1 3fff:fff::1 4000::1 5f00::1 8000::1 100::1 1fff:ffff::1
    fc00::1 fd00:ec2::254 fd20:ce::254 fdff::1 fe80::1 fe80::a9fe:a9fe febf::1 fec0::1 feff::1 ff00:: ff02::1 ff0e::1
    fe80::1%eth0 fe80::1%1 ::1%lo 2606:4700:4700::1111%eth0 ::ffff:8.8.8.8%1 64:ff9b::8.8.8.8%1
"""

NO_ADDRESS = [
    "", "localhost", "127.1", "2130706433", "0x7f.0.0.1", "010.8.8.8", "8.8.8", "8.8.8.8 ", "8.8.8.8/32", "[::1]",
    "①.1.1.1", "8.8.8.8\0", "::1%",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC.split())
def test_a_public_address_is_permitted(address: str) -> None:
    assert permitted(address)


@pytest.mark.parametrize("address", [*NOT_PUBLIC.split(), *NO_ADDRESS])
def test_an_address_that_is_not_public_is_not_permitted(address: str) -> None:
    assert not permitted(address)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_alike_as_itself_mapped_and_by_nat64(address: object) -> None:
    assert permitted(str(address)) == permitted(f"::ffff:{address}") == permitted(f"64:ff9b::{address}")
    assert not permitted(f"::{address}")
    assert not permitted(f"64:ff9b:1::{address}")


@given(st.ip_addresses())
def test_what_the_library_calls_private_is_never_permitted(address: object) -> None:
    assert not (permitted(str(address)) and address.is_private and getattr(address, "ipv4_mapped", None) is None)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("smtp.example.com", "smtp.example.com"),
        ("SMTP.Example.COM", "smtp.example.com"),
        ("smtp.example.com.", "smtp.example.com"),
        ("mail_1", "mail_1"),
        ("4.example.com", "4.example.com"),
        ("127.0.0.1.example.com", "127.0.0.1.example.com"),
        ("0x7f.example", "0x7f.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),
        ("ＳＭＴＰ。example．com", "smtp.example.com"),
        ("ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "localhost"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("192.0.2.1", "192.0.2.1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("2001:DB8::1", "2001:db8::1"),
        (".".join(["a" * 63] * 3 + ["b" * 61]), ".".join(["a" * 63] * 3 + ["b" * 61])),
    ],
)
def test_a_host_has_one_spelling(written: str, name: str) -> None:
    assert hostname(written) == name == hostname(name)


NO_HOST = [
    "", ".", "..", " ", "a..b", ".a", "a..", "-a.example", "a-.example", "a" * 64, ".".join(["a" * 63] * 4), "é" * 300,
    "a" * 100_000, "9" * 100_000,
    "127.1", "127.0.1", "2130706433", "017700000001", "0x7f000001", "0x7F000001", "0x7f.1", "0x7f.0.0.1", "0177.0.0.1",
    "127.0.0.0x1", "0", "0x",
    "1.0x", "127.0.0.1.", "127.0.0.01", "127.0.0.1.2", "256.0.0.1", "example.0x10", "example.1", "4294967297",
    "127.0.0.1.0x7f",
    "①②⑦.⓪.⓪.①", "１２７.0.0.1", "127。0。0。1", "１２７．１", "２１３０７０６４３３", "0ｘ7f.1", "١٢٧.0.0.1",
    "[::1]", "[127.0.0.1]", "[::]", "::1%lo", "fe80::1%eth0", "::1%25lo", "::1::", "1::2::3", "127.0.0.1%lo", "%lo",
    "localhost:25", "127.0.0.1:25", "user@127.0.0.1", "user:password@host", "a@b", "smtp://host", "//host", "host/path",
    "host?x", "host#x",
    "host\\x", " localhost", "localhost ", "local host", "localhost\t", "localhost\n", "localhost\r\nQUIT",
    "127.0.0.1 x", "localhost\0", "\0",
    "a\0.example", "localhost\u2028", "a\u202eb", "℀.example", "\ud800.example", "a,b", "a;b", "*", "*.example", "$(x)",
    "a'b", "ａ／ｂ", "host：25",
    "xn--\u00fc.example",
]  # fmt: skip


@pytest.mark.parametrize("written", NO_HOST, ids=lambda written: ascii(written)[:40])
def test_a_text_that_is_no_host_is_refused_with_a_printable_sentence(written: str) -> None:
    with pytest.raises(NotPermitted, match="neither a host name nor an IP address") as caught:
        hostname(written)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
    assert "password" not in str(caught.value)
    assert (caught.value.about, isinstance(caught.value, InvalidInput)) == ("host", True)


@given(st.text())
def test_any_text_is_a_host_in_its_one_spelling_or_refused(text: str) -> None:
    with suppress(NotPermitted):
        name = hostname(text)
        assert name.isascii()
        assert hostname(name) == name


def names(**zone: list[str]) -> Guard:
    """Return a guard whose DNS has only the names of `zone` (a_b stands for a.b)."""
    return Guard(look_up=lambda host, _: zone[host.replace(".", "_")])


def refusal(guard: Guard, host: str, port: int = 25) -> NotPermitted:
    with pytest.raises(NotPermitted) as caught:
        guard.addresses(host, port)
    return caught.value


def test_only_the_public_ones_of_several_addresses_are_returned_in_their_order() -> None:
    guard = names(
        mx_test=["fd00::1", "2606:4700::2", "127.0.0.1", "8.8.8.8", "::ffff:10.0.0.1", "8.8.8.8", "2606:4700::1"]
    )
    assert guard.addresses("MX.test.", 587) == ("2606:4700::2", "8.8.8.8", "2606:4700::1")


def test_a_host_without_a_public_address_is_refused_without_telling_those_it_has() -> None:
    told = str(refusal(names(mx_test=["10.1.2.3", "fd00::1"]), "mx.test"))
    assert told == "mx.test: no public address, and no other is permitted by ALLOW_PRIVATE_HOSTS"
    assert refusal(names(mx_test=[]), "mx.test").about == "host"


def test_ten_of_the_thousands_of_addresses_of_a_host_are_returned() -> None:
    assert (
        len(names(mx_test=[f"8.8.{n // 256}.{n % 256}" for n in range(3000)]).addresses("mx.test", 25)) == MAX_ADDRESSES
    )


def test_an_address_is_judged_without_asking_the_dns() -> None:
    assert names().addresses("8.8.8.8", 25) == ("8.8.8.8",)
    assert names().check("2606:4700:0::1", 465) == "2606:4700::1"
    assert refusal(names(), "::ffff:127.0.0.1").about == "host"


def test_a_name_is_looked_up_once() -> None:
    asked = []

    def look_up(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["8.8.8.8"]

    Guard(look_up=look_up).addresses("bücher.example", 25)
    assert asked == [("xn--bcher-kva.example", 25)]


@pytest.mark.parametrize("port", sorted(SMTP_PORTS))
def test_the_ports_of_mail_are_permitted(port: int) -> None:
    assert names(mx_test=["8.8.8.8"]).addresses("mx.test", port) == ("8.8.8.8",)


@pytest.mark.parametrize("port", [-1, 0, 22, 24, 26, 80, 443, 5432, 5672, 6379, 11211, 65_535, 65_536, 25 + 65_536])
@pytest.mark.parametrize("host", ["mx.test", "8.8.8.8"])
def test_other_ports_are_refused_before_the_dns_is_asked(host: str, port: int) -> None:
    assert refusal(names(), host, port).about == "port"
    with pytest.raises(NotPermitted, match="port"):
        names().check(host, port)


@pytest.mark.parametrize(
    ("host", "told"),
    [("mx.test", "unless ALLOW_PRIVATE_HOSTS permits"), ("8.8.8.8", "unless ALLOW_PRIVATE_HOSTS permits"),
     ("10.0.0.1", "and 10.0.0.1 is no public host; ALLOW_PRIVATE_HOSTS can"),
     ("fd00::1", "and fd00::1 is no public host; ALLOW_PRIVATE_HOSTS can"),
     ("mail.localhost", "and mail.localhost is no public host; ALLOW_PRIVATE_HOSTS can")],
)  # fmt: skip
def test_a_refused_port_names_the_setting_and_says_if_the_host_is_plainly_private(host: str, told: str) -> None:
    said = refusal(names(mx_test=["10.1.2.3"]), host, 6379)
    assert told in str(said)
    assert (said.about, "10.1.2.3" in str(said)) == ("port", False)


def allowing(*entries: str, **zone: list[str]) -> Guard:
    return Guard(allowed=Allowed.read(entries), look_up=names(**zone).look_up)


def test_an_allowed_network_is_reached_on_any_port_and_nothing_beside_it() -> None:
    guard = allowing(
        "10.1.0.0/16", "fd00::/8", mx_test=["10.1.2.3", "10.2.0.1", "8.8.8.8", "fd00::1"], out_test=["10.2.0.1"]
    )
    assert guard.addresses("mx.test", 25) == ("10.1.2.3", "8.8.8.8", "fd00::1")
    assert guard.addresses("mx.test", 2500) == ("10.1.2.3", "fd00::1")
    assert guard.addresses("10.1.9.9", 2500) == ("10.1.9.9",)
    assert guard.addresses("::ffff:10.1.9.9", 25) == ("::ffff:a01:909",)
    assert refusal(guard, "out.test").about == "host"
    assert refusal(guard, "out.test", 2500).about == "port"
    assert refusal(guard, "127.0.0.1", 2500).about == "port"


def test_an_allowed_name_is_reached_wherever_it_leads_and_no_other_name_is() -> None:
    guard = allowing("Relay.Internal.", relay_internal=["10.0.0.1"], relay_internal_test=["10.0.0.1"])
    assert guard.addresses("relay.internal", 2500) == ("10.0.0.1",)
    assert refusal(guard, "relay.internal.test").about == "host"
    assert refusal(guard, "10.0.0.1").about == "host"


def test_everything_may_be_allowed_but_no_odd_spelling() -> None:
    guard = allowing("*", mx_test=["127.0.0.1", "fe80::1%eth0"])
    assert guard.addresses("mx.test", 6379) == ("127.0.0.1", "fe80::1%eth0")
    assert refusal(guard, "127.1").about == "host"
    assert refusal(guard, "mx.test", 0).about == "port"


@pytest.mark.parametrize(
    "entry", ["", "10.0.0.1/8", "10.0.0.0/33", "127.1", "a b", "http://x", "[::1]", "*.internal", "fe80::/10%eth0"]
)
def test_an_entry_that_is_neither_network_nor_name_is_named(entry: str) -> None:
    with pytest.raises(ValueError, match="is no network") as caught:
        Allowed.read(["10.0.0.0/8", entry])
    assert repr(entry) in str(caught.value)


def test_guards_with_the_same_rules_are_the_same_key() -> None:
    assert {
        Guard(allowed=Allowed.read(["10.0.0.0/8", "relay"])),
        Guard(allowed=Allowed.read(["10.0.0.0/8", "relay"])),
    } == {Guard(allowed=Allowed.read(["10.0.0.0/8", "relay"]))}
    assert Guard() != Guard(allowed=Allowed.read(["*"]))


@pytest.mark.parametrize(
    ("peer", "own", "allowed", "good"),
    [
        ("8.8.8.8", "8.8.4.4", (), True),
        ("127.0.0.1", "127.0.0.1", (), False),
        ("10.0.0.1", "10.0.0.2", (), False),
        ("::ffff:127.0.0.1", "::1", (), False),
        ("8.8.8.8", "8.8.8.8", (), False),
        ("8.8.8.8", "8.8.8.8", ("8.8.8.8",), True),
        ("8.8.8.8", "8.8.8.8", ("mx.test",), True),
        ("10.0.0.1", "10.0.0.1", ("10.0.0.0/8",), True),
    ],
)
def test_the_peer_of_a_connection_is_judged_again_and_may_not_be_this_machine(
    peer: str, own: str, allowed: tuple[str, ...], good: bool
) -> None:
    guard = allowing(*allowed)
    if good:
        guard.check_peer("mx.test", 25, peer, own)
    else:
        with pytest.raises(NotPermitted):
            guard.check_peer("mx.test", 25, peer, own)


# Spellings that the C library takes for this machine: so without the guard a canary would be
# reached.
REACHES_US = [
    "127.0.0.1", "127.1", "0x7f.1", "2130706433", "017700000001", "①②⑦.⓪.⓪.①", "127。0。0。1", "0", "0.0.0.0",
    "localhost", "::1", "::ffff:127.0.0.1",
]  # fmt: skip


def test_no_spelling_of_this_machine_reaches_a_listener_on_it() -> None:
    with ExitStack() as stack:
        hosts = ["127.0.0.1"] * 9 + ["127.0.0.2", "127.255.255.254"] + ["::1"] * 8
        canaries = [stack.enter_context(Canary(host=host)) for host in hosts]
        canaries.append(stack.enter_context(Canary(host="::")))
        ports = frozenset(canary.port for canary in canaries)
        guard = Guard(ports=ports)
        for host in {*REACHES_US, *NOT_PUBLIC.split(), *NO_HOST}:
            for port in ports:
                with suppress(NotPermitted, OSError):
                    for address in guard.addresses(host, port):
                        socket.create_connection((address, port), timeout=PATIENCE).close()
        assert [canary.connections for canary in canaries] == [0] * 20


@pytest.mark.parametrize("host", REACHES_US)
def test_without_the_guard_such_a_spelling_does_reach_it(host: str) -> None:
    with Canary(host="::1" if host == "::1" else "127.0.0.1") as canary:
        assert any(not permitted(address) for address in system_look_up(host, canary.port))
        socket.create_connection((host, canary.port), timeout=PATIENCE).close()
    assert canary.connections == 1


# -- hosts that the MX records of a recipient's domain name


PUBLIC_ADDRESS = "93.184.216.34"


@pytest.mark.parametrize(
    ("allowed", "host", "addresses", "reached"),
    [
        (
            (),
            "mx.b.test",
            ["127.0.0.1", PUBLIC_ADDRESS, "10.0.0.1", "2606:4700::1", "::1"],
            (PUBLIC_ADDRESS, "2606:4700::1"),
        ),
        ((), "mx.b.test", ["0.0.0.0", "169.254.169.254", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::1"], ()),
        (("10.0.0.0/8",), "mx.b.test", ["127.0.0.1", "10.0.0.1"], ("10.0.0.1",)),
        (("mx.b.test",), "MX.b.test.", ["127.0.0.1"], ("127.0.0.1",)),
        (("b.test",), "mx.b.test", ["127.0.0.1"], ()),
        (("*",), "any host at all", ["127.0.0.1"], ("127.0.0.1",)),
        ((), "an odd_name of the DNS/", [PUBLIC_ADDRESS], (PUBLIC_ADDRESS,)),
    ],
)
def test_only_public_and_allowed_addresses_of_an_mx_host_are_reached(
    allowed: tuple[str, ...], host: str, addresses: list[str], reached: tuple[str, ...]
) -> None:
    assert Guard(allowed=Allowed.read(allowed)).reachable(host, addresses) == reached


def test_this_machine_knows_its_own_addresses_without_sending_a_packet() -> None:
    assert ours("127.0.0.1")
    assert ours("127.0.0.2")  # a second address of one network: a socket connected to it has 127.0.0.1 at this end
    assert ours("::ffff:127.0.0.1")
    assert not ours("192.0.2.1")
    assert not ours("no address")
